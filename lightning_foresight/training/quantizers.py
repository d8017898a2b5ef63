"""Quantised activations, so that the information of a layer is finite and its codes are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_foresight.functional._checks import check_choice, check_int, check_range
from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.partial_information import quantize


class QuantizeActivations(nn.Module):
    r"""Round activations to K levels between two limits, with a gradient that passes straight through.

    In training a value is rounded up or down at random, so that its mean is kept (``"stochastic"``); in evaluation it
    is rounded to the nearest level (``"center"``), as Ehrlich et al. measure it. The gradient is that of clamping to
    the limits. Random draws come from a generator of the module's own, which is saved with its state.

    Args:
        levels: Number of levels K.
        limits: Smallest and largest level, for instance (-1, 1) after a tanh.
        mode: Rounding in training: ``"stochastic"`` or ``"center"``.
        eval_mode: Rounding in evaluation.
        seed: Seed of the stochastic rounding.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        Ehrlich et al. 2023, arXiv:2209.10438; straight-through gradient: Bengio, Léonard & Courville 2013,
        arXiv:1308.3432.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.training import QuantizeActivations
        >>> layer = nn.Sequential(nn.Tanh(), QuantizeActivations(levels=3)).eval()
        >>> layer(torch.tensor([-2.0, 0.1, 0.6]))
        tensor([-1.,  0.,  1.])
        >>> layer[1].codes(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([0, 1, 2])
    """

    def __init__(
        self,
        levels: int = 8,
        limits: tuple[float, float] = (-1.0, 1.0),
        *,
        mode: str = "stochastic",
        eval_mode: str = "center",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_int("QuantizeActivations", "levels", levels, 2)
        check_int("QuantizeActivations", "seed", seed, 0)
        for name, value in (("mode", mode), ("eval_mode", eval_mode)):
            check_choice("QuantizeActivations", name, value, ("stochastic", "center"))
        self.levels = levels
        self.limits = check_range("QuantizeActivations", "limits", limits)
        self.mode = mode
        self.eval_mode = eval_mode
        self.seed = seed
        self._generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the nearest levels, with the gradient of clamping."""
        low, high = self.limits
        clamped = x.clamp(low, high)
        # As `quantize` does, without its search for NaN, for which every step would wait for the device.
        scaled = (clamped.detach() - low).div_(high - low).mul_(self.levels - 1)
        if (self.mode if self.training else self.eval_mode) == "center":
            scaled.round_()
        else:
            generator = self._generator_on(x.device)
            scaled.add_(torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)).floor_()
            scaled.clamp_(max=self.levels - 1)
        rounded = scaled.mul_((high - low) / (self.levels - 1)).add_(low)
        return clamped + rounded.sub_(clamped.detach())

    def codes(self, x: Tensor) -> Tensor:
        """Return the integer codes of activations, 0 to ``levels - 1``."""
        mode = self.mode if self.training else self.eval_mode
        generator = self._generator_on(x.device) if mode == "stochastic" else None
        return quantize(x.detach(), self.levels, limits=self.limits, mode=mode, generator=generator)

    def extra_repr(self) -> str:
        """Say what matters when a model is printed."""
        return f"levels={self.levels}, limits={self.limits}, mode={self.mode!r}, eval_mode={self.eval_mode!r}"

    def get_extra_state(self) -> Any:
        """State of the generator, for checkpoints."""
        generator = self._generator
        return None if generator is None else {"device": generator.device.type, "state": generator.get_state()}

    def set_extra_state(self, state: Any) -> None:
        """Take over the state of a checkpoint; one from another kind of device is left, and the seed starts anew."""
        self._generator = None
        here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        if state is not None and state["device"] in ("cpu", here and here.type):
            self._generator = torch.Generator(state["device"])
            self._generator.set_state(state["state"].cpu())

    def _generator_on(self, device: torch.device) -> torch.Generator:
        if self._generator is None or self._generator.device.type != device.type:
            self._generator = own_generator(device, self.seed)
        return self._generator

    def __getstate__(self) -> dict[str, Any]:
        # A generator does not pickle or copy: its state does.
        return {**self.__dict__, "_generator": None, "_generator_state": self.get_extra_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        generator_state = state.pop("_generator_state", None)
        super().__setstate__(state)
        self.set_extra_state(generator_state)
