"""What GradientNoiseScaleCallback says: values, figures, advice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lightning_foresight.callbacks._base import ForesightCallback, Measured
from lightning_foresight.callbacks._noise_curvature import CURVATURE_BANDS, CurvatureRecord
from lightning_foresight.callbacks._noise_methods import Averaging
from lightning_foresight.callbacks._noise_pace import NoisePace
from lightning_foresight.callbacks._noise_recorder import NoiseRecorder
from lightning_foresight.callbacks._noise_stream import BANDS
from lightning_foresight.callbacks._progress import completed_steps
from lightning_foresight.functional._checks import fail
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.gradient_noise import BatchSizeSuggestion, NoiseScale, suggest_batch_size
from lightning_foresight.probes.gradient_groups import select_parameters
from lightning_foresight.probes.gradient_rerun import TrainingLoss
from lightning_foresight.probes.noise_scale import check_loader, probe_noise_scale_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning import LightningModule, Trainer


class NoiseReport(ForesightCallback):
    """Reports what a recorder and a record of the curvature hold; a subclass says when these look at the run."""

    averaging: Averaging
    hessian: bool | int
    _recorder: NoiseRecorder
    _curvature: CurvatureRecord
    _count: Callable[[Any], int]  # examples of a batch
    _pace: NoisePace
    _num_stepped: int  # batches of this run at which an optimizer stepped
    _restored: dict[str, Any]  # from a checkpoint, until the run begins

    @property
    def method_in_use(self) -> str | None:
        """What ``method="auto"`` chose; ``None`` before training."""
        return self._pace.method_in_use

    def should_measure(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Say whether to report: at the Trainer's logging steps and after every epoch, if anything was observed."""
        if self.event == "step":
            every = trainer.log_every_n_steps  # type: ignore[attr-defined]
            return bool(every and completed_steps(trainer, self.event) % every == 0) and self._has_news()
        if self.event == "epoch":
            return self._has_news()
        # Resumed from a checkpoint that was written before its epoch was reported.
        return self._has_news() and max((row.epoch for row in self.history), default=0.0) < trainer.current_epoch

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Measured:
        """Return the noise scales, with the observations since the last report."""
        values: dict[str | Sequence[str], Estimate | Tensor] = {}
        for stream in self._recorder.streams:
            if len(stream):
                values |= stream.report(trainer)
        if len(self._curvature):
            values |= self._curvature.report(trainer, self._pace.num_due)
        return values

    def _has_news(self) -> bool:
        return any(len(stream) for stream in self._recorder.streams) or len(self._curvature) > 0

    def suggest_batch_size(self, optimizer: int | None = None) -> BatchSizeSuggestion:
        """Say whether to raise or lower the batch size, from the latest noise scale in the history.

        Args:
            optimizer: Which optimizer's, when there are several.

        Raises:
            ValueError: If nothing has been measured.
        """
        suffix = "" if optimizer is None else f"/optimizer_{optimizer}"
        last = self.history.last()
        scale, size = (last.get(self.key(f"{name}{suffix}")) for name in ("b_simple", "batch_size"))
        if scale is None or size is None:
            several = sum(key.startswith(self.key("b_simple/optimizer_")) and key.count("/") == 2 for key in last)
            if several:
                fail(self.name, "suggest_batch_size: optimizer", optimizer, f"expected 0 to {several - 1}.")
            raise ValueError(f"{self.name}.suggest_batch_size(): nothing has been measured yet; train first.")
        return suggest_batch_size(scale.value, scale.lower, scale.upper, size.value)

    def probe(
        self, pl_module: LightningModule, dataloader: Any, *, rtol: float = 0.1, max_batches: int = 256
    ) -> NoiseScale:
        """Measure the noise scale of a model as it is, at frozen weights, until it is as precise as wanted.

        Runs ``training_step`` on batches without a trace in the module. A run that is under way is left alone, too, if
        the loader is not its own.

        Args:
            pl_module: The model, in the mode in which it is to be measured.
            dataloader: Batches for ``training_step``, in random order.
            rtol: Stop when the standard error of ``b_simple`` is at most this share of it.
            max_batches: Stop after so many in any case.

        Returns:
            :class:`~lightning_foresight.functional.NoiseScale`.

        Raises:
            ValueError: As :func:`~lightning_foresight.probes.probe_noise_scale`, or if the model optimizes manually.
            TypeError: If ``dataloader`` is a dataset, which holds examples, or nothing that can be iterated over.
        """
        check_loader(f"{self.name}.probe", "dataloader", dataloader)
        parameters = select_parameters(pl_module, self.layers, owner=self.name)
        loss = TrainingLoss(pl_module, list(parameters.values()))
        batches = ((_as_in_training(pl_module, batch), None) for batch in dataloader)
        level = self.averaging.level
        return probe_noise_scale_for(
            f"{self.name}.probe", loss, lambda value, _: value, batches,
            rtol=rtol, max_batches=max_batches, level=level, seed=self.seed, batch_size=self._count,
        )  # fmt: skip

    def bands(self) -> Sequence[str]:
        """Return the keys that have an interval."""
        bands = [f"{name}{stream.suffix}" for stream in self._recorder.streams for name in BANDS]
        return [*bands, *CURVATURE_BANDS] if self.hessian else bands

    def figures(self) -> Mapping[str, Figure]:
        """Return the noise scale with its band beside the batch size, and beside ``b_noise`` if that was measured."""
        from lightning_foresight.plotting.noise_scale import noise_scale

        table = {row.key for row in self.history}
        figures = {}
        for stream in self._recorder.streams:
            key = self.key(f"b_simple{stream.suffix}")
            if key in table:
                groups = {group: f"{key}/{group}" for group in stream.window.groups}
                figures[f"noise_scale{stream.suffix}"] = noise_scale(
                    self.history[key],
                    self.history[self.key(f"batch_size{stream.suffix}")],
                    {group: self.history[name] for group, name in groups.items() if name in table},
                    self.history[b_noise] if (b_noise := self.key("b_noise")) in table else (),
                )
        return figures

    def _state(self) -> dict[str, Any]:
        streams = [stream.state() for stream in self._recorder.streams]
        counts = {"num_due": self._pace.num_due, "num_stepped": self._num_stepped}
        return {"streams": streams, "curvature": self._curvature.state(), **counts}

    def _go_on(self, state: dict[str, Any]) -> None:
        self._pace.restart(state["num_due"])
        self._num_stepped = state.get("num_stepped", 0)
        self._curvature.load_state(state["curvature"])
        for stream, saved in zip(self._recorder.streams, state["streams"], strict=False):
            stream.load_state(saved)

    def state_dict(self) -> dict[str, Any]:
        """Return the history and the moments, with the observations that are not in them yet."""
        return super().state_dict() | {"observed": self._state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the history and the moments of a checkpoint."""
        super().load_state_dict(state_dict)
        self._restored = state_dict["observed"]

    def _finish(self, trainer: Trainer) -> None:
        # After an exception the other processes may be gone: no collective operation then.
        if self._running and trainer.world_size == 1:
            self.event = "step"
            with self.leaving_the_run_alone(trainer):
                if self._has_news():
                    model = trainer.lightning_module
                    self._record(trainer, model, self.measure(trainer, model))
        super()._finish(trainer)


def _as_in_training(pl_module: LightningModule, batch: Any) -> Any:
    """Return a batch as ``training_step`` gets it, augmented and on the device."""
    batch = pl_module.on_before_batch_transfer(batch, 0)
    batch = pl_module.transfer_batch_to_device(batch, pl_module.device, 0)
    return pl_module.on_after_batch_transfer(batch, 0)
