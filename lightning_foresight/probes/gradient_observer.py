"""What every way of seeing the noise in a gradient has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from lightning_foresight.probes.gradients import GradientNorms


class GradientObserver(ABC):
    """Looks at the run's own forward and backward pass, and says afterwards what the gradient's noise was.

    A pass that is not announced is not looked at. Nothing that an observer does changes a bit of the run.

    Attributes:
        kind: What the norms of :meth:`collect` are norms of; see :class:`~.gradient_windows.MicroBatch`.
        once_a_step: Whether the first micro-batch of an optimizer step says enough.
    """

    kind: ClassVar[str]
    once_a_step: ClassVar[bool] = False

    def before_forward(self, batch_size: int) -> None:  # noqa: B027 - few observers need it
        """Prepare for a forward pass on so many examples."""

    @abstractmethod
    def before_backward(self, loss: Tensor, batch_size: int, seed: int) -> None:
        """Look at the backward pass that comes next.

        Args:
            loss: What it starts from, a mean over examples.
            batch_size: Number of examples.
            seed: Seed of whatever is drawn.
        """

    @abstractmethod
    def collect(self) -> GradientNorms | None:
        """Return what the backward pass showed; ``None`` if it was not looked at or reached no parameter."""

    @abstractmethod
    def remove(self) -> None:
        """Remove all hooks and forget what was seen."""
