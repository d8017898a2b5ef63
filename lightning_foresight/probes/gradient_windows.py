"""From the gradients of one optimizer step's micro-batches to one observation of noise and signal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_foresight.probes.gradients import GradientNorms, Metric, accumulated_norms, is_sharded


class MicroBatch(NamedTuple):
    """What one backward pass showed.

    Attributes:
        norms: Norms of what ``kind`` says; ``None`` if not looked at.
        size: Number of examples.
        batch_idx: The Trainer's batch that it came from.
        kind: ``"micro_batches"``: the micro-batch's gradient. ``"split"``: the difference of its signed halves.
            ``"per_example"``: the root mean square over its examples.
    """

    norms: GradientNorms | None
    size: int
    batch_idx: int
    kind: str


class GradientWindow:
    """The micro-batches between two steps of one optimizer, and the observation they make together.

    All gradients of a window are taken at the same weights, which is what makes its observation unbiased on moving
    weights. Squared norms are summed by group of parameters; the first group holds all.

    Args:
        parameters: The measured parameters of the model, in the order of the probe.
        groups: Positions among them of the parameters of each further group.
        device: Where the gradients live.
        metric: The diagonal metric of the norms, by position of the parameter.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        groups: Mapping[str, Sequence[int]],
        device: torch.device,
        metric: Metric | None = None,
    ) -> None:
        self.metric = metric
        self.parameters = parameters
        self.groups = groups
        self.device = device
        self.members: frozenset[int] = frozenset()
        self.micro_batches: list[MicroBatch] = []
        self._rows: dict[tuple[int, ...], Tensor] = {}
        self._version = -1  # of the first gradient, after the last backward pass

    def assign(self, members: Iterable[int]) -> None:
        """Say which parameters the optimizer of this window updates, by position."""
        self.members = frozenset(members)
        self._rows.clear()

    @property
    def num_groups(self) -> int:
        """Number of groups, the one of all parameters included."""
        return 1 + len(self.groups)

    def live_groups(self) -> dict[str, int]:
        """Return the groups that the optimizer trains some parameter of now, with their places among all groups."""
        return {
            group: place
            for place, (group, indices) in enumerate(self.groups.items())
            if any(index in self.members and self.parameters[index].requires_grad for index in indices)
        }

    @property
    def width(self) -> int:
        """Number of values in an observation."""
        return 2 * self.num_groups + 1

    @property
    def has_seen(self) -> bool:
        """Whether some micro-batch of the window was looked at."""
        return any(micro.norms is not None for micro in self.micro_batches)

    def restart_if_zeroed(self) -> None:
        """Begin anew if the gradients are gone without a step, so that the next backward pass is the first one."""
        if self.micro_batches and self.was_zeroed():
            self.micro_batches.clear()

    def add(self, micro: MicroBatch) -> None:
        """Take up what a backward pass that has just ended showed, if it reached this window's parameters."""
        seen, first = micro.norms, self._first_with_gradient()
        if not (first is None if seen is None else self.members.isdisjoint(seen.indices)):
            self.micro_batches.append(micro)
        if first is not None and first.grad is not None:
            self._version = first.grad._version

    def was_zeroed(self) -> bool:
        """Say whether the gradients are gone: deleted, or zeroed in place since the last backward pass."""
        first = self._first_with_gradient()
        if first is None:
            return True
        if first.grad is None or is_sharded(first) or first.grad._version == self._version:
            return False
        # Somebody wrote into it. As a rule that was zero_grad: only then the device is waited for.
        return all(map(_is_zero, (self.parameters[member].grad for member in self.members)))

    def _first_with_gradient(self) -> nn.Parameter | None:
        # A sharded gradient may still be on its way while micro-batches are accumulated: its absence says nothing.
        members = (self.parameters[member] for member in self.members)
        return next((one for one in members if one.grad is not None or is_sharded(one)), None)

    def observe(self, *, divisor: float, scale: Tensor | None) -> Tensor | None:
        """Return the observation of the micro-batches so far, and begin a new window; call it before the step.

        Args:
            divisor: What each micro-batch's loss was divided by, ``accumulate_grad_batches``.
            scale: What the loss was multiplied by for half precision; ``.grad`` must be unscaled already.

        Returns:
            Noise (mean squared norm of the micro-batches' or examples' gradients, or tr Sigma from a split) and squared
            norm of their mean, by group, and the mean reciprocal size: shape (2 * num_groups + 1,). ``None`` if no
            backward pass was looked at, as when ``training_step`` returned ``None``.

        Raises:
            ValueError: If two backward passes of the window came from one batch, or a split did not reach a parameter.
        """
        micro_batches, self.micro_batches = self.micro_batches, []
        seen = [micro.norms for micro in micro_batches if micro.norms is not None]
        if not seen:
            return None
        kind, size = next((micro.kind, micro.size) for micro in micro_batches if micro.norms is not None)
        if len({micro.batch_idx for micro in micro_batches}) < len(micro_batches):
            raise ValueError(
                "an optimizer step was made of several backward passes on one batch; expected one a batch. If they are "
                "parts of one loss, their gradients are not independent: add them before manual_backward. If they are "
                "parts of the batch, it cannot be told how many examples each had: let the DataLoader yield the parts."
            )
        # Only what the hooks saw: a parameter that was unfrozen in between has a gradient and no hook yet.
        known = dict.fromkeys(index for norms in seen for index in norms.indices)
        if kind == "split" and self.metric is None:
            self._check_reached(known)
        accumulated = accumulated_norms(self.parameters, known, self.metric)
        if accumulated is None:
            return None
        squares = self._by_group([*seen, accumulated])
        count = len(micro_batches)
        factor = float(divisor) ** 2
        if kind == "split":
            # E|sum of signed gradients / B|^2 = m tr Sigma / B^2; m is B, or B - 1 when that is odd.
            factor *= size**2 / (size // 2 * 2)
        noise = (squares[0] if len(seen) == 1 else squares[:-1].mean(0)) * factor
        if scale is not None:
            noise = noise / scale.to(noise.dtype) ** 2
        # A partial window is still divided by the full number of micro-batches.
        mean_square = squares[-1] * (divisor / count) ** 2
        inverse_size = mean_square.new_full((1,), sum(1 / micro.size for micro in micro_batches) / count)
        return torch.cat([noise, mean_square, inverse_size])

    def _check_reached(self, known: Iterable[int]) -> None:
        unreached = [index for index in self.members.difference(known) if self.parameters[index].grad is not None]
        if unreached:
            raise ValueError(
                f"{len(unreached)} of {len(self.members)} parameters have a gradient that the signed split did not "
                "reach: reentrant activation checkpointing hides them from torch.autograd.grad. Pass "
                "use_reentrant=False to checkpoint, or measure by accumulate_grad_batches of 2 or more."
            )

    def _by_group(self, seen: Sequence[GradientNorms]) -> Tensor:
        """Return the sums of squares by group, shape (len(seen), groups)."""
        indices = seen[0].indices
        if any(norms.indices != indices for norms in seen):
            return torch.cat([self._by_group([norms]) for norms in seen])
        if indices not in self._rows:
            columns = [self.members, *(self.members.intersection(places) for places in self.groups.values())]
            rows = [[float(index in column) for index in indices] for column in columns]
            self._rows[indices] = torch.tensor(rows, device=self.device)  # (groups, parameters)
        squares = torch.stack([norms.norms for norms in seen]).square()
        # Not a matrix product: TF32 would round the squares to three digits.
        return (squares.unsqueeze(1) * self._rows[indices]).sum(2)


def _is_zero(gradient: Tensor | None) -> bool:
    if gradient is None:
        return True
    return not bool((gradient.coalesce().values() if gradient.is_sparse else gradient).any())
