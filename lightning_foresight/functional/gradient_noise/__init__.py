"""Gradient noise scale: how noisy the gradient of one example is, beside the size of the gradient itself."""

from lightning_foresight.functional.gradient_noise.batch_size import BatchSizeSuggestion, suggest_batch_size
from lightning_foresight.functional.gradient_noise.fieller import fieller_interval
from lightning_foresight.functional.gradient_noise.hessian import HessianNoiseScale, hessian_noise_scale
from lightning_foresight.functional.gradient_noise.moments import noise_moments
from lightning_foresight.functional.gradient_noise.noise_scale import NoiseScale, noise_scale_from_norms
from lightning_foresight.functional.gradient_noise.per_example import exact_noise_scale, per_example_sq_norms
from lightning_foresight.functional.gradient_noise.preconditioner import adam_preconditioner, preconditioned_sq_norm
from lightning_foresight.functional.gradient_noise.student_t import student_t_quantile

__all__ = [
    "BatchSizeSuggestion",
    "HessianNoiseScale",
    "NoiseScale",
    "adam_preconditioner",
    "exact_noise_scale",
    "fieller_interval",
    "hessian_noise_scale",
    "noise_moments",
    "noise_scale_from_norms",
    "per_example_sq_norms",
    "preconditioned_sq_norm",
    "student_t_quantile",
    "suggest_batch_size",
]
