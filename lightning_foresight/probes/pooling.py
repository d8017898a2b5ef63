"""One window of a pooling layer: all of them do the same, and every channel is treated alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lightning_foresight.functional.effective_information.affine import runs_as

_AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_MAXIMUM = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_ADAPTIVE_AVERAGE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_ADAPTIVE_MAXIMUM = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)


def one_window(module: nn.Module, source: Tensor, result: Tensor) -> tuple[nn.Module, tuple[int, ...]] | None:
    """Return a pooling layer of one window and the shape of its input, ``None`` for other modules.

    Those are subclasses that override ``forward``, too.

    Windows of adaptive pooling may differ in size: taken is the largest. Padding is not looked at.

    Args:
        module: The module.
        source: What it reads in the model.
        result: What it gives.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.probes.pooling import one_window
        >>> one_window(nn.AdaptiveMaxPool1d(2), torch.zeros(1, 3, 7), torch.zeros(1, 3, 2))
        (MaxPool1d(kernel_size=(4,), stride=(4,), padding=0, dilation=1, ceil_mode=False), (1, 4))
    """
    for kinds, plain in (
        (_AVERAGE, _AVERAGE), (_MAXIMUM, _MAXIMUM), (_ADAPTIVE_AVERAGE, _AVERAGE), (_ADAPTIVE_MAXIMUM, _MAXIMUM)
    ):  # fmt: skip
        for axes, kind in enumerate(kinds, start=1):
            if runs_as(module, (kind,)):
                kernel = _kernel(module, source.shape[-axes:], result.shape[-axes:])
                if plain is _AVERAGE:  # known by its weights; it may divide by another number than that of its inputs
                    return module if kinds is _AVERAGE else _layer(plain[axes - 1], kernel), ()
                return _layer(plain[axes - 1], kernel), (1, *kernel)
    return None


def _layer(kind: Any, kernel: tuple[int, ...]) -> nn.Module:
    layer: nn.Module = kind(kernel)
    return layer


def _kernel(module: nn.Module, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> tuple[int, ...]:
    size: Any = getattr(module, "kernel_size", None)
    if size is None:
        return tuple(map(_largest_window, inputs, outputs))
    return (size,) * len(inputs) if isinstance(size, int) else tuple(size)


def _largest_window(inputs: int, outputs: int) -> int:
    # Where adaptive pooling begins and ends a window: rounded down and up.
    return max(-(-(at + 1) * inputs // outputs) - at * inputs // outputs for at in range(outputs))
