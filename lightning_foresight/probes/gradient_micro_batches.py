"""The gradient of each micro-batch, as the run's own backward pass computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from lightning_foresight.probes.gradient_observer import GradientObserver
from lightning_foresight.probes.gradients import GradientNormProbe, GradientNorms, Metric


class MicroBatchObserver(GradientObserver):
    """Sees this process's gradient of each micro-batch before it is added to others or reduced over devices.

    Args:
        parameters: The parameters to measure.
        metric: The diagonal metric of the norms, by position of the parameter.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.probes.gradient_micro_batches import MicroBatchObserver
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> observer = MicroBatchObserver([layer.weight])
        >>> loss = layer(torch.tensor([[3.0, 4.0]])).mean()
        >>> observer.before_backward(loss, batch_size=1, seed=0)
        >>> loss.backward()
        >>> observer.collect()
        GradientNorms(indices=(0,), norms=tensor([5.]))
        >>> observer.remove()
    """

    kind: ClassVar[str] = "micro_batches"

    def __init__(self, parameters: Sequence[nn.Parameter], metric: Metric | None = None) -> None:
        self.probe = GradientNormProbe(parameters, metric=metric)

    def before_backward(self, loss: Tensor, batch_size: int, seed: int) -> None:
        """Listen to the coming backward pass, with hooks on whatever has been unfrozen since."""
        self.probe.attach()
        self.probe.listening = True

    def collect(self) -> GradientNorms | None:
        """Return the norms of this micro-batch's gradients."""
        self.probe.listening = False
        return self.probe.collect()

    def remove(self) -> None:
        """Remove the hooks."""
        self.probe.listening = False
        self.probe.remove()
