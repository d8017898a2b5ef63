"""torchmetrics metrics around the pure functions: state, synchronisation over ranks, reset."""

from lightning_foresight.metrics.gradient_noise_scale import GradientNoiseScale

__all__ = ["GradientNoiseScale"]
