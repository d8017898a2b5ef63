"""What one optimizer's steps have shown of its gradient noise, waiting to be reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_foresight.callbacks._noise_memory import Memory, Norms
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.gradient_noise.noise_scale import NoiseScale
from lightning_foresight.probes.gradient_windows import GradientWindow

if TYPE_CHECKING:
    from pytorch_lightning import Trainer
    from torch.optim import Optimizer

PARTS = ("b_simple", "trace_sigma", "grad_sq_norm")
BANDS = (*PARTS, "efficiency")


class NoiseStream:
    """The windows, the waiting observations and the memory of one optimizer.

    Args:
        optimizer: The optimizer whose parameters are measured.
        windows: One for each observer: all parameters, and the normalisation layers if these are calibrated.
        memory: Averages the observations.
        suffix: Ends the keys, to tell several optimizers apart.
        device: Where the gradients live.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        windows: Sequence[GradientWindow],
        memory: Memory,
        *,
        suffix: str,
        device: torch.device,
    ) -> None:
        self.optimizer = optimizer
        self.windows = windows
        self.memory = memory
        self.suffix = suffix
        self.device = device
        self.refresh()
        # Observations of all windows in a row, micro-batches, kind of the first.
        self._waiting: list[tuple[Tensor, int, str]] = []

    @property
    def window(self) -> GradientWindow:
        """The window of all parameters."""
        return self.windows[0]

    def refresh(self) -> None:
        """Take up parameters that were added to the optimizer."""
        held = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        for window in self.windows:
            members = {index for index, parameter in enumerate(window.parameters) if id(parameter) in held}
            if members != window.members:
                window.assign(members)

    def restart(self) -> None:
        """Begin all windows anew."""
        for window in self.windows:
            window.micro_batches.clear()

    def restart_if_zeroed(self) -> None:
        """Begin all windows anew if the gradients are gone without a step."""
        for window in self.windows:
            window.restart_if_zeroed()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, observations: Sequence[Tensor | None], count: int, kind: str, *, several_ranks: bool) -> None:
        """Keep an observation of each window on the device until the next report; ``None`` is one that failed."""
        if not all(window.members for window in self.windows):  # nothing of this optimizer's shows its noise
            return
        # Every rank holds the same number of observations, or their reduction would wait for ever.
        if not several_ranks and all(observation is None for observation in observations):
            return
        row = [
            torch.full((window.width,), torch.nan, device=self.device) if seen is None else seen
            for window, seen in zip(self.windows, observations, strict=True)
        ]
        self._waiting.append((torch.cat(row), count, kind))

    def report(self, trainer: Trainer) -> dict[str | Sequence[str], Estimate | Tensor]:
        """Add what waits to the memory and return the values to log by key."""
        batch_size = self._absorb(trainer)
        scale, part = self.memory.scale(), self.memory.part_scale()
        values: dict[str | Sequence[str], Estimate | Tensor] = {}
        for name, estimate in zip(PARTS, scale, strict=True):
            values[f"{name}{self.suffix}"] = _pick(estimate, slice(0, 1))
        values[f"batch_size{self.suffix}"] = batch_size
        values[f"efficiency{self.suffix}"] = _efficiency(scale, batch_size)
        if part is not None:
            values[f"b_norm_layers{self.suffix}"] = _pick(part.b_simple, slice(0, 1))
        live = self.window.live_groups()
        if live:
            keys = tuple(f"b_simple{self.suffix}/{group}" for group in live)
            values[keys] = _pick(scale.b_simple, [1 + place for place in live.values()])
        return values

    def state(self) -> dict[str, Any]:
        """Return the memory and what waits, for a checkpoint."""
        waiting = [(observation.tolist(), count, kind) for observation, count, kind in self._waiting]
        return {"memory": self.memory.state.cpu(), "waiting": waiting}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over the memory and observations of a checkpoint, unless they are of other groups or another kind."""
        if state["memory"].shape[1:] == self.memory.state.shape[1:]:
            self.memory.state = state["memory"].to(self.memory.state)
            self._waiting = [
                (torch.tensor(values, device=self.device), count, kind) for values, count, kind in state["waiting"]
            ]

    def _absorb(self, trainer: Trainer) -> Tensor:
        observations, counts, kinds = zip(*self._waiting, strict=True)
        self._waiting = []
        # The ranks' small batches are averaged here; their big gradient is the reduced one on every rank already.
        table = trainer.strategy.reduce(torch.stack(observations), reduce_op="mean").to(self.memory.state)
        count = table.new_tensor(counts).unsqueeze(1) * trainer.world_size
        widths = [window.width for window in self.windows]
        norms = [
            _norms(part, count, kinds if position == 0 else ("per_example",) * len(kinds))
            for position, part in enumerate(table.split(widths, dim=1))
        ]
        self.memory.add(norms[0], norms[1] if len(norms) > 1 else None)
        return norms[-1].batch_big[-1]


def _norms(table: Tensor, count: Tensor, kinds: Sequence[str]) -> Norms:
    """Turn rows of noise, squared norm of the mean and mean reciprocal size into norms over two batch sizes."""
    num_groups = (table.shape[1] - 1) // 2
    noise, big, inverse_size = table.split([num_groups, num_groups, 1], dim=1)
    batch_big = count / inverse_size
    split, single = (
        torch.tensor([kind == one for kind in kinds], device=table.device).unsqueeze(1)
        for one in ("split", "per_example")
    )
    # A split gives tr Sigma itself: as if the small batches were half as big.
    small = torch.where(split, big + noise / batch_big, noise)
    batch_small = torch.where(split, batch_big / 2, torch.where(single, 1.0, 1 / inverse_size))
    return Norms(small, big, batch_small, batch_big)


def _pick(estimate: Estimate, part: slice | list[int]) -> Estimate:
    """Return an estimate of some of the groups; torchmetrics makes a scalar of a single one."""
    fields = {name: field.reshape(-1)[part] for name, field in estimate._asdict().items() if isinstance(field, Tensor)}
    return estimate._replace(**fields)  # type: ignore[arg-type]


def _efficiency(scale: NoiseScale, batch_size: Tensor) -> Estimate:
    """Return B / (B + B_simple), the progress of a step over that of one without noise, in [0, 1]."""
    b, s, g = scale
    lower, upper = (end.reshape(-1)[0].nan_to_num(posinf=torch.inf, neginf=0.0) for end in b.interval())
    size = batch_size.to(lower)
    # Single estimates of |G|^2 and the noise may be negative: then no signal is seen, or no noise.
    signal, noise = (part.value.reshape(-1)[0].clamp(min=0) for part in (g, s))
    value = torch.where(signal == 0, signal, size * signal / (size * signal + noise))
    return b._replace(
        value=value,
        std_error=torch.full_like(lower, torch.nan),
        num_samples=b.num_samples.reshape(-1)[0],
        saturation=torch.zeros_like(lower),
        lower=(size / (size + upper)).clamp(0, 1).fmin(value),
        upper=(size / (size + lower.clamp(min=0))).clamp(0, 1).fmax(value),
    )
