"""What one optimizer's steps have shown of its gradient noise, waiting to be reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.gradient_noise.noise_scale import NoiseScale
from lightning_foresight.metrics.gradient_noise_scale import GradientNoiseScale
from lightning_foresight.probes.gradient_windows import GradientWindow

if TYPE_CHECKING:
    from pytorch_lightning import Trainer
    from torch.optim import Optimizer

PARTS = ("b_simple", "trace_sigma", "grad_sq_norm")
BANDS = (*PARTS, "efficiency")


class NoiseStream:
    """The window, the waiting observations and the moments of one optimizer.

    Args:
        optimizer: The optimizer whose parameters are measured.
        parameters: The measured parameters of the model.
        groups: Positions among them of each group's parameters.
        suffix: Ends the keys, to tell several optimizers apart.
        device: Where the gradients live.
        decay: Weight of an observation relative to the next one.
        level: Coverage of the intervals.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: Sequence[nn.Parameter],
        groups: dict[str, list[int]],
        *,
        suffix: str,
        device: torch.device,
        decay: float,
        level: float,
    ) -> None:
        self.optimizer = optimizer
        self.window = GradientWindow(parameters, groups, device)
        self.refresh()
        self.suffix = suffix
        self.device = device
        # Every rank will hold the moments of all ranks: nothing is left to synchronise.
        self.metric = GradientNoiseScale(
            decay=decay, level=level, num_groups=self.window.num_groups, sync_on_compute=False
        )
        # The state is float64, which MPS does not have.
        self.metric.to("cpu" if device.type == "mps" else device)
        self._waiting: list[tuple[Tensor, int, str]] = []  # observation, micro-batches, kind

    def refresh(self) -> None:
        """Take up parameters that were added to the optimizer."""
        held = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        members = {index for index, parameter in enumerate(self.window.parameters) if id(parameter) in held}
        if members != self.window.members:
            self.window.assign(members)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, observation: Tensor | None, count: int, kind: str, *, several_ranks: bool) -> None:
        """Keep an observation on the device until the next report; ``None`` is one that failed."""
        if observation is None:
            if not several_ranks:
                return
            # Every rank holds the same number of observations, or their reduction would wait for ever.
            observation = torch.full((2 * self.window.num_groups + 1,), torch.nan, device=self.device)
        self._waiting.append((observation, count, kind))

    def report(self, trainer: Trainer) -> dict[str | Sequence[str], Estimate | Tensor]:
        """Add what waits to the moments and return the values to log by key."""
        batch_size = self._absorb(trainer)
        scale = self.metric.compute()
        values: dict[str | Sequence[str], Estimate | Tensor] = {}
        for name, estimate in zip(PARTS, scale, strict=True):
            values[f"{name}{self.suffix}"] = _pick(estimate, slice(0, 1))
        values[f"batch_size{self.suffix}"] = batch_size
        values[f"efficiency{self.suffix}"] = _efficiency(scale, batch_size)
        if self.window.groups:
            keys = tuple(f"b_simple{self.suffix}/{group}" for group in self.window.groups)
            values[keys] = _pick(scale.b_simple, slice(1, None))
        return values

    def state(self) -> dict[str, Any]:
        """Return the moments and what waits, for a checkpoint."""
        waiting = [(observation.tolist(), count, kind) for observation, count, kind in self._waiting]
        return {"sums": self.metric.sums.cpu(), "waiting": waiting}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over the moments and observations of a checkpoint, unless they are of other groups."""
        if state["sums"].shape == self.metric.sums.shape:
            self.metric.sums = state["sums"].to(self.metric.sums)
            self._waiting = [
                (torch.tensor(values, device=self.device), count, kind) for values, count, kind in state["waiting"]
            ]

    def _absorb(self, trainer: Trainer) -> Tensor:
        observations, counts, kinds = zip(*self._waiting, strict=True)
        self._waiting = []
        # The ranks' small batches are averaged here; their big gradient is the reduced one on every rank already.
        table = trainer.strategy.reduce(torch.stack(observations), reduce_op="mean").to(self.metric.sums)
        num_groups = self.window.num_groups
        noise, big, inverse_size = table.split([num_groups, num_groups, 1], dim=1)
        batch_big = table.new_tensor(counts).unsqueeze(1) * trainer.world_size / inverse_size
        split, single = (
            torch.tensor([kind == one for kind in kinds], device=table.device).unsqueeze(1)
            for one in ("split", "per_example")
        )
        # A split gives tr Sigma itself: as if the small batches were half as big.
        small = torch.where(split, big + noise / batch_big, noise)
        batch_small = torch.where(split, batch_big / 2, torch.where(single, 1.0, 1 / inverse_size))
        self.metric.update(small, big, batch_small.squeeze(1), batch_big.squeeze(1))
        return batch_big[-1]


def make_streams(
    optimizers: Sequence[Optimizer],
    named: Mapping[str, nn.Parameter],
    groups: Mapping[str, Sequence[str]],
    *,
    device: torch.device,
    decay: float,
    level: float,
) -> list[NoiseStream]:
    """Return a stream for each optimizer.

    Args:
        optimizers: The optimizers of the run.
        named: The parameters to measure, by name.
        groups: Their names by group.
        device: Where the gradients live.
        decay: Weight of an observation relative to the next one.
        level: Coverage of the intervals.
    """
    position = {name: index for index, name in enumerate(named)}
    places = {group: [position[name] for name in names] for group, names in groups.items()}
    return [
        NoiseStream(
            optimizer,
            list(named.values()),
            places,
            suffix=f"/optimizer_{number}" if len(optimizers) > 1 else "",
            device=device,
            decay=decay,
            level=level,
        )
        for number, optimizer in enumerate(optimizers)
    ]


def _pick(estimate: Estimate, part: slice) -> Estimate:
    """Return an estimate of some of the groups; torchmetrics makes a scalar of a single one."""
    fields = {name: field.reshape(-1)[part] for name, field in estimate._asdict().items() if isinstance(field, Tensor)}
    return estimate._replace(**fields)  # type: ignore[arg-type]


def _efficiency(scale: NoiseScale, batch_size: Tensor) -> Estimate:
    """Return B / (B + B_simple), the progress of a step over that of one without noise."""
    b, s, g = scale
    lower, upper = (end.reshape(-1)[0].nan_to_num(posinf=torch.inf, neginf=0.0) for end in b.interval())
    size = batch_size.to(lower)
    signal = size * g.value.reshape(-1)[0]
    return b._replace(
        value=signal / (signal + s.value.reshape(-1)[0]),
        std_error=torch.full_like(lower, torch.nan),
        num_samples=b.num_samples.reshape(-1)[0],
        saturation=torch.zeros_like(lower),
        lower=(size / (size + upper)).clamp(0, 1),
        upper=(size / (size + lower.clamp(min=0))).clamp(0, 1),
    )
