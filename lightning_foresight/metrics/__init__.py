"""torchmetrics metrics around the pure functions: state, synchronisation over ranks, reset."""

from lightning_foresight.metrics.effective_information import EffectiveInformation
from lightning_foresight.metrics.gradient_noise_scale import GradientNoiseScale
from lightning_foresight.metrics.weight_effective_information import WeightEffectiveInformation

__all__ = ["EffectiveInformation", "GradientNoiseScale", "WeightEffectiveInformation"]
