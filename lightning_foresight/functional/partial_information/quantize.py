"""From activations to integer codes."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_foresight.functional._checks import check_choice, check_int, check_range, data, describe, takes
from lightning_foresight.functional._random import own_generator

MODES = ("center", "stochastic", "bins")


@takes(x=data)
def quantize(
    x: Tensor,
    levels: int = 8,
    *,
    limits: tuple[float, float] | None = None,
    mode: str = "center",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Integer codes from 0 to ``levels - 1`` of values between two limits.

    With :math:`z = (x - lo) / s`, :math:`s = (hi - lo) / (K - 1)`:

    - ``"center"``: :math:`\operatorname{round}(z)`, levels centred on both limits, so that saturated units have
      codes of their own;
    - ``"stochastic"``: :math:`\lfloor z \rfloor + \operatorname{Bernoulli}(z \bmod 1)`, the value itself on average;
    - ``"bins"``: K bins of equal width between the limits.

    Args:
        x: Activations of any shape.
        levels: Number of levels K.
        limits: ``(lo, hi)``; values beyond are clamped. The range of ``x`` when ``None``.
        mode: ``"center"``, ``"stochastic"`` or ``"bins"``.
        generator: Randomness of ``"stochastic"``, on the device of ``x``; seeded with 0 when ``None``.

    Returns:
        Codes of the shape of ``x``, int64.

    Raises:
        ValueError: If an argument is out of range, values are NaN, or there are no limits to be found in them.

    Source:
        Ehrlich et al. 2023, arXiv:2209.10438 (training with ``"stochastic"``, measuring with ``"center"``).

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import quantize
        >>> quantize(torch.tensor([-1.0, -0.9, 0.1, 2.0]), levels=3, limits=(-1, 1))
        tensor([0, 0, 1, 2])
    """
    check_int("quantize", "levels", levels, 2)
    check_choice("quantize", "mode", mode, MODES)
    if bool(x.isnan().any()):
        raise ValueError(f"quantize(x): got NaN in {describe(x)}; expected numbers. Look for a diverged layer.")
    x = x if x.is_floating_point() else x.float()
    if limits is None:
        if x.numel() == 0:
            raise ValueError(f"quantize(x): got {describe(x)}; expected a value at least, or limits=(low, high).")
        low, high = x.amin(), x.amax()
        if not bool((high - low).isfinite()):
            raise ValueError(
                f"quantize(x): the values of {describe(x)} range from {float(low):g} to {float(high):g}, which no "
                "levels divide; expected finite numbers, or limits=(low, high) to clamp them to."
            )
        high = torch.where(high > low, high, low + 1)  # a constant has one code
    else:
        low, high = (x.new_tensor(end) for end in check_range("quantize", "limits", limits))
    unit = ((x - low) / (high - low)).clamp(0, 1)
    if mode == "bins":
        return (unit * levels).floor().clamp(max=levels - 1).long()
    scaled = unit * (levels - 1)
    if mode == "center":
        return scaled.round().long()
    generator = generator or own_generator(x.device)
    uniform = torch.rand(x.shape, generator=generator, device=x.device, dtype=scaled.dtype)
    return (scaled + uniform).floor().clamp(max=levels - 1).long()
