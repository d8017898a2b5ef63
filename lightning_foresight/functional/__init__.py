"""Pure functions: tensors in, tensors out. No Lightning, no state."""

from lightning_foresight.functional._trace import LayerCall
from lightning_foresight.functional.dependence import (
    IndependenceTest,
    cka,
    distance_correlation,
    hsic,
    independence_test,
    nhsic,
)
from lightning_foresight.functional.discrete_entropy import discrete_entropy
from lightning_foresight.functional.effective_information.causal import CausalMeasures, causal_measures
from lightning_foresight.functional.effective_information.connectivity import connectivity_matrix
from lightning_foresight.functional.effective_information.groups import ei_between_groups
from lightning_foresight.functional.effective_information.norms import lin_norm, sig_norm, soft_norm
from lightning_foresight.functional.effective_information.parts import ei_parts
from lightning_foresight.functional.effective_information.sensitivity import sensitivity
from lightning_foresight.functional.effective_information.vector import effective_information
from lightning_foresight.functional.effective_information.weight_layers import trace_weight_layers
from lightning_foresight.functional.effective_information.weights import (
    WeightEI,
    weight_effective_information,
    weight_ei,
)
from lightning_foresight.functional.entropy import entropy
from lightning_foresight.functional.estimate import Estimate, make_estimate
from lightning_foresight.functional.gradient_noise import (
    BatchSizeSuggestion,
    HessianNoiseScale,
    NoiseScale,
    adam_preconditioner,
    exact_noise_scale,
    fieller_interval,
    hessian_noise_scale,
    noise_moments,
    noise_scale_from_norms,
    per_example_sq_norms,
    preconditioned_sq_norm,
    suggest_batch_size,
)
from lightning_foresight.functional.mutual_information import (
    ESTIMATORS,
    data_processing_gap,
    input_information,
    label_information,
    layer_pair_information,
    mutual_information,
    plane_information,
)
from lightning_foresight.functional.partial_information import (
    Atoms,
    BrojaResult,
    JointRows,
    ReingResult,
    ShannonInvariantsResult,
    SxPIDResult,
    broja_pid,
    dual_total_correlation,
    information_by_degree,
    joint_table,
    noisy_table,
    o_information,
    quantize,
    reing,
    representational_complexity,
    s_information,
    shannon_invariants,
    subset_mutual_information,
    sx_pid,
    total_correlation,
)

__all__ = [
    "ESTIMATORS",
    "Atoms",
    "BatchSizeSuggestion",
    "BrojaResult",
    "CausalMeasures",
    "Estimate",
    "HessianNoiseScale",
    "IndependenceTest",
    "JointRows",
    "LayerCall",
    "NoiseScale",
    "ReingResult",
    "ShannonInvariantsResult",
    "SxPIDResult",
    "WeightEI",
    "adam_preconditioner",
    "broja_pid",
    "causal_measures",
    "cka",
    "connectivity_matrix",
    "data_processing_gap",
    "discrete_entropy",
    "distance_correlation",
    "dual_total_correlation",
    "effective_information",
    "ei_between_groups",
    "ei_parts",
    "entropy",
    "exact_noise_scale",
    "fieller_interval",
    "hessian_noise_scale",
    "hsic",
    "independence_test",
    "information_by_degree",
    "input_information",
    "joint_table",
    "label_information",
    "layer_pair_information",
    "lin_norm",
    "make_estimate",
    "mutual_information",
    "nhsic",
    "noise_moments",
    "noise_scale_from_norms",
    "noisy_table",
    "o_information",
    "per_example_sq_norms",
    "plane_information",
    "preconditioned_sq_norm",
    "quantize",
    "reing",
    "representational_complexity",
    "s_information",
    "sensitivity",
    "shannon_invariants",
    "sig_norm",
    "soft_norm",
    "subset_mutual_information",
    "suggest_batch_size",
    "sx_pid",
    "total_correlation",
    "trace_weight_layers",
    "weight_effective_information",
    "weight_ei",
]
