"""What happens around each forward pass, backward pass and step of a run while its gradient noise is observed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import compress
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lightning_foresight.callbacks._noise_stream import NoiseStream
from lightning_foresight.probes.gradient_observer import GradientObserver
from lightning_foresight.probes.gradient_windows import MicroBatch

if TYPE_CHECKING:
    from torch.optim import Optimizer


class NoiseRecorder:
    """Lets observers look at the steps that are due, and fills the windows of the optimizers with what they saw.

    The n-th observer fills the n-th window of every stream.

    Args:
        streams: One for each optimizer.
        guard: A context that keeps an error in a measurement from ending the run.
        batch_size: Counts the examples of a batch.
    """

    def __init__(
        self,
        streams: Sequence[NoiseStream],
        guard: Callable[[], AbstractContextManager[None]],
        batch_size: Callable[[Any], int],
    ) -> None:
        self.streams = streams
        self.observers: Sequence[GradientObserver] = ()
        self.looking: list[bool] = []
        self.is_looking = False  # any of the observers; asked in every hook of the run, so kept
        self.last_count = 1  # micro-batches of the last optimizer step that was looked at, or else passed by
        self._num_passes = 0  # backward passes since the last step
        self._knows_count = False
        self._guard = guard
        self._batch_size = batch_size
        self._batch: tuple[Any, int] = (None, 0)  # with its number among those looked at
        self._size: int | None = None  # of the batch, once counted

    def use(self, observers: Sequence[GradientObserver]) -> None:
        """Take other observers from now on."""
        self.remove()
        self.observers = observers
        self.look([False] * len(observers))

    def look(self, looking: list[bool]) -> None:
        """Say of each observer whether it looks at the coming step."""
        self.looking, self.is_looking = looking, any(looking)

    def before_forward(self, batch: Any) -> None:
        """Remember the batch, for its size, and tell the observers that look at this step."""
        self._batch = (batch, self._batch[1] + 1)  # its index would come again in a step that spans epochs
        self._size = None
        for observer in compress(self.observers, self.looking):
            with self._guard():
                observer.before_forward(self._count())

    def before_backward(self, loss: Tensor, seed: int) -> None:
        """Let the observers look at the backward pass that comes."""
        for stream in self.streams:
            stream.restart_if_zeroed()
        for position, observer in compress(enumerate(self.observers), self.looking):
            if observer.once_a_step and any(stream.windows[position].has_seen for stream in self.streams):
                continue
            with self._guard():
                observer.before_backward(loss, self._count(), seed)

    def after_backward(self) -> None:
        """Put what this micro-batch showed into the windows of the optimizers whose parameters it reached."""
        self._num_passes += 1
        if not self.is_looking:  # most steps, which should cost nothing
            for stream in self.streams:
                stream.num_unseen += 1
            return
        _, number = self._batch
        for position, observer in enumerate(self.observers):
            with self._guard():
                micro = MicroBatch(observer.collect(), self._count(), number, observer.kind)
                for stream in self.streams:
                    stream.windows[position].add(micro)

    def _count(self) -> int:
        if self._size is None:
            self._size = self._batch_size(self._batch[0])
        return self._size

    def restart(self, optimizer: Optimizer) -> None:
        """Begin an optimizer's step anew, when its gradients are zeroed."""
        for stream in self.streams:
            if stream.optimizer is optimizer:
                stream.restart()

    def pass_by(self, optimizer: Optimizer) -> None:
        """Let an optimizer step that nobody looks at."""
        for stream in self.streams:
            if stream.optimizer is optimizer:  # else it is the user's own, unknown to the Trainer
                stream.restart()
                if not self._knows_count:
                    self.last_count = self._num_passes
                self._num_passes = 0

    def before_step(self, optimizer: Optimizer, *, divisor: float, scale: Tensor | None, several_ranks: bool) -> int:
        """Make one observation of an optimizer's micro-batches; return how many there were, 0 if not all were seen.

        Args:
            optimizer: The optimizer that is about to step.
            divisor: What each micro-batch's loss was divided by.
            scale: What the loss was multiplied by for half precision; ``.grad`` must be unscaled already.
            several_ranks: Whether the ranks' observations will be averaged.
        """
        stream = next((stream for stream in self.streams if stream.optimizer is optimizer), None)
        if stream is None:  # the user's own optimizer, unknown to the Trainer
            return 0
        self._num_passes = 0
        if stream.num_unseen:  # its gradient holds micro-batches that nobody looked at
            stream.skip()
            return 0
        count = len(stream.window.micro_batches)
        self.last_count, self._knows_count = max(count, 1), True
        kind = stream.window.micro_batches[0].kind if count else ""
        observations: list[Tensor | None] = []
        for window in stream.windows:
            observations.append(None)
            with self._guard():
                observations[-1] = window.observe(divisor=divisor, scale=scale)
        stream.add(observations, count, kind, several_ranks=several_ranks)
        return count

    def forget_batch(self) -> None:
        """Let the batch go."""
        self._batch = (None, self._batch[1])

    def let_go(self) -> None:
        """Remove all hooks and hold on to nothing of the run but the streams."""
        self.remove()
        self.forget_batch()
        self._guard = nullcontext
        for stream in self.streams:
            stream.restart()

    def remove(self) -> None:
        """Remove all hooks."""
        for observer in self.observers:
            observer.remove()
