"""Pure functions: tensors in, tensors out. No Lightning, no state."""

from lightning_foresight.functional.discrete_entropy import discrete_entropy
from lightning_foresight.functional.effective_information.connectivity import connectivity_matrix
from lightning_foresight.functional.effective_information.norms import lin_norm, sig_norm, soft_norm
from lightning_foresight.functional.effective_information.parts import ei_parts
from lightning_foresight.functional.effective_information.sensitivity import sensitivity
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
from lightning_foresight.functional.mutual_information import (
    ESTIMATORS,
    input_information,
    label_information,
    mutual_information,
    plane_information,
)
from lightning_foresight.functional.partial_information import (
    Atoms,
    JointRows,
    SxPIDResult,
    joint_table,
    sx_pid,
)

__all__ = [
    "Atoms",
    "ESTIMATORS",
    "Estimate",
    "JointRows",
    "NoiseScale",
    "SxPIDResult",
    "WeightEI",
    "connectivity_matrix",
    "discrete_entropy",
    "ei_parts",
    "entropy",
    "exact_noise_scale",
    "fieller_interval",
    "input_information",
    "joint_table",
    "label_information",
    "lin_norm",
    "make_estimate",
    "mutual_information",
    "noise_moments",
    "noise_scale_from_norms",
    "per_example_sq_norms",
    "plane_information",
    "sensitivity",
    "sig_norm",
    "soft_norm",
    "sx_pid",
    "trace_weight_layers",
    "weight_effective_information",
    "weight_ei",
]
