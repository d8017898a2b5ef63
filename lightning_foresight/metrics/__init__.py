"""torchmetrics metrics around the pure functions: state, synchronisation over ranks, reset."""

from lightning_foresight.metrics.adam_noise_scale import AdamNoiseScale
from lightning_foresight.metrics.broja_pid import BrojaPID
from lightning_foresight.metrics.dependence import DependenceMetric
from lightning_foresight.metrics.effective_information import EffectiveInformation
from lightning_foresight.metrics.gradient_noise_scale import GradientNoiseScale
from lightning_foresight.metrics.hsic import CKA, HSIC
from lightning_foresight.metrics.joint_table import JointTable
from lightning_foresight.metrics.mutual_information import MutualInformation
from lightning_foresight.metrics.o_information import OInformation
from lightning_foresight.metrics.representational_complexity import RepresentationalComplexity
from lightning_foresight.metrics.shannon_invariants import ShannonInvariants
from lightning_foresight.metrics.sx_pid import SxPID
from lightning_foresight.metrics.weight_effective_information import WeightEffectiveInformation

__all__ = [
    "CKA",
    "HSIC",
    "AdamNoiseScale",
    "BrojaPID",
    "DependenceMetric",
    "EffectiveInformation",
    "GradientNoiseScale",
    "JointTable",
    "MutualInformation",
    "OInformation",
    "RepresentationalComplexity",
    "ShannonInvariants",
    "SxPID",
    "WeightEffectiveInformation",
]
