"""What one optimizer's steps have shown of its gradient noise, waiting to be reported."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median_high, multimode
from typing import TYPE_CHECKING, Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from lightning_foresight.callbacks._noise_memory import Memory, Observation
from lightning_foresight.callbacks._noise_values import as_estimate, efficiency
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.gradient_noise.plain import divide, mean_interval, ratio_interval, solve
from lightning_foresight.probes.gradient_windows import GradientWindow

if TYPE_CHECKING:
    from pytorch_lightning import Trainer
    from torch.optim import Optimizer

PARTS = ("b_simple", "trace_sigma", "grad_sq_norm")
BANDS = (*PARTS, "efficiency")
FEW_SKIPPED = 8
RECENT = 32  # observed steps whose sizes say how large a batch usually is


class NoiseStream:
    """The windows, the waiting observations and the memory of one optimizer.

    Args:
        optimizer: The optimizer whose parameters are measured.
        windows: One for each observer: all parameters, and the normalisation layers if these are calibrated.
        memory: Averages the observations.
        level: Coverage of the intervals.
        suffix: Ends the keys, to tell several optimizers apart.
        device: Where the gradients live.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        windows: Sequence[GradientWindow],
        memory: Memory,
        *,
        level: float,
        suffix: str,
        device: torch.device,
    ) -> None:
        self.optimizer = optimizer
        self.windows = windows
        self.memory = memory
        self.level = level
        self.suffix = suffix
        self.device = device
        self.refresh()
        # Observations of all windows in a row, micro-batches, kind of the first.
        self._waiting: list[tuple[Tensor, int, str]] = []
        self.num_unseen = 0  # backward passes since the last step or zero_grad that nobody looked at
        self._num_skipped = 0
        self._sizes: deque[float] = deque(maxlen=RECENT)

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
        self.num_unseen = 0
        for window in self.windows:
            window.micro_batches.clear()

    def skip(self) -> None:
        """Make nothing of a step that was seen in part; say so once if that is all there is."""
        self.restart()
        self._num_skipped += 1
        if self._num_skipped == FEW_SKIPPED and self.suffix:
            rank_zero_warn(
                f"gradient noise of {self.suffix[1:]}: {FEW_SKIPPED} of its steps were seen in part only and are left "
                "out, since it steps at other batches than the other optimizers. Pass every_n_steps=1."
            )

    def restart_if_zeroed(self) -> None:
        """Begin all windows anew if the gradients are gone without a step."""
        if self.num_unseen and self.window.was_zeroed():
            self.restart()
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
        self._waiting.append((row[0] if len(row) == 1 else torch.cat(row), count, kind))

    def report(self, trainer: Trainer) -> dict[str | Sequence[str], Estimate | Tensor]:
        """Add what waits to the memory and return the values to log by key; this waits for the device."""
        self._absorb(trainer)
        # An epoch may end with a smaller batch, or in the middle of an accumulation: that is not what to choose by.
        batch_size = median_high(multimode(self._sizes)) if self._sizes else math.nan
        means, part = self.memory.means(), self.memory.part_means()
        whole, count = means[0], means[0].num_effective
        scale = ratio_interval(whole, self.level)
        known = {
            "b_simple": (scale, count),
            "trace_sigma": (mean_interval(whole.numerator, whole.numerator_var, count - 1, self.level), count),
            "grad_sq_norm": (mean_interval(whole.denominator, whole.denominator_var, count - 1, self.level), count),
            "efficiency": (efficiency(scale, whole.numerator, whole.denominator, batch_size), count),
        }
        if part is not None:
            known["b_norm_layers"] = (ratio_interval(part, self.level), part.num_effective)
        values = {f"{name}{self.suffix}": value for name, value in known.items()}
        for group, place in self.window.live_groups().items():
            of_group = means[1 + place]
            values[f"b_simple{self.suffix}/{group}"] = (ratio_interval(of_group, self.level), of_group.num_effective)
        keys, estimate = as_estimate(values)
        return {keys: estimate, f"batch_size{self.suffix}": torch.tensor(batch_size)}

    def state(self) -> dict[str, Any]:
        """Return the memory and what waits, for a checkpoint."""
        waiting = [(observation.tolist(), count, kind) for observation, count, kind in self._waiting]
        return {"memory": self.memory.state, "waiting": waiting, "sizes": list(self._sizes)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over the memory and observations of a checkpoint, unless they are of other groups or another kind."""
        saved, expected = tuple(state["memory"].shape), tuple(self.memory.state.shape)
        if saved[1:] != expected[1:]:
            rank_zero_warn(
                f"gradient noise{self.suffix}: the checkpoint's observations, of shape {saved}, do not fit the groups "
                f"and the averaging of this run, of shape {expected}; averages begin anew. Pass the groups, decay, "
                "window and method of the saved run to go on with them."
            )
            return
        self.memory.state = state["memory"]
        self._waiting = [
            (torch.tensor(values, device=self.device), count, kind) for values, count, kind in state["waiting"]
        ]
        self._sizes.extend(state.get("sizes", ()))

    def _absorb(self, trainer: Trainer) -> None:
        tables, counts, kinds = zip(*self._waiting, strict=True)
        self._waiting = []
        # The ranks' small batches are averaged here; their big gradient is the reduced one on every rank already.
        rows = trainer.strategy.reduce(torch.stack(tables), reduce_op="mean").tolist()
        observations = []
        for row, count, kind in zip(rows, counts, kinds, strict=True):
            start = self.window.width
            whole, batch_size = _moments(row[:start], count * trainer.world_size, kind)
            part = None
            if len(self.windows) > 1:
                (part,), batch_size = _moments(row[start:], count * trainer.world_size, "per_example")
            observations.append(Observation(whole, part))
            if not math.isnan(batch_size):  # as where every process failed
                self._sizes.append(batch_size)
        self.memory.add(observations)


def _moments(row: Sequence[float], count: int, kind: str) -> tuple[list[tuple[float, float]], float]:
    """Return noise and signal of each group, and the size of the whole batch, from one window's observation."""
    num_groups = len(row) // 2
    noise, big, inverse_size = row[:num_groups], row[num_groups:-1], row[-1]
    batch_size = divide(count, inverse_size)
    if kind == "split":  # gives tr Sigma itself
        return [(n, b - n / batch_size) for n, b in zip(noise, big, strict=True)], batch_size
    batch_small = 1.0 if kind == "per_example" else divide(1, inverse_size)
    return [solve(n, b, batch_small, batch_size) for n, b in zip(noise, big, strict=True)], batch_size
