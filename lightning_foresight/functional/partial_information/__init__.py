"""What the parts of a layer know of a target: apart, each alone, and only together."""

from lightning_foresight.functional.partial_information.broja import BrojaResult, broja_pid
from lightning_foresight.functional.partial_information.complexity import (
    information_by_degree,
    representational_complexity,
)
from lightning_foresight.functional.partial_information.joint_table import JointRows, joint_table
from lightning_foresight.functional.partial_information.multivariate import (
    dual_total_correlation,
    o_information,
    s_information,
    total_correlation,
)
from lightning_foresight.functional.partial_information.noisy_bins import noisy_table
from lightning_foresight.functional.partial_information.quantize import quantize
from lightning_foresight.functional.partial_information.reing import ReingResult, reing, subset_mutual_information
from lightning_foresight.functional.partial_information.shannon_invariants import (
    ShannonInvariantsResult,
    shannon_invariants,
)
from lightning_foresight.functional.partial_information.sx_pid import Atoms, SxPIDResult, sx_pid

__all__ = [
    "Atoms",
    "BrojaResult",
    "JointRows",
    "ReingResult",
    "ShannonInvariantsResult",
    "SxPIDResult",
    "broja_pid",
    "dual_total_correlation",
    "information_by_degree",
    "joint_table",
    "noisy_table",
    "o_information",
    "quantize",
    "reing",
    "representational_complexity",
    "s_information",
    "shannon_invariants",
    "subset_mutual_information",
    "sx_pid",
    "total_correlation",
]
