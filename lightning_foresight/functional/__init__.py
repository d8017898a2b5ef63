"""Pure functions: tensors in, tensors out. No Lightning, no state."""

from lightning_foresight.functional.effective_information.connectivity import connectivity_matrix
from lightning_foresight.functional.effective_information.norms import lin_norm, sig_norm, soft_norm
from lightning_foresight.functional.effective_information.weights import (
    WeightEI,
    trace_weight_layers,
    weight_effective_information,
    weight_ei,
)
from lightning_foresight.functional.entropy import entropy
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.gradient_noise import (
    NoiseScale,
    exact_noise_scale,
    fieller_interval,
    noise_moments,
    noise_scale_from_norms,
    per_example_sq_norms,
)

__all__ = [
    "Estimate",
    "NoiseScale",
    "WeightEI",
    "connectivity_matrix",
    "entropy",
    "exact_noise_scale",
    "fieller_interval",
    "lin_norm",
    "make_estimate",
    "noise_moments",
    "noise_scale_from_norms",
    "per_example_sq_norms",
    "sig_norm",
    "soft_norm",
    "trace_weight_layers",
    "weight_effective_information",
    "weight_ei",
]
