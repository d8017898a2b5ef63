"""Lightning callbacks: when to measure, and under which name."""

from lightning_foresight.callbacks._base import ForesightCallback
from lightning_foresight.callbacks.effective_information import EICallback
from lightning_foresight.callbacks.gradient_noise_scale import GradientNoiseScaleCallback
from lightning_foresight.callbacks.information_plane import InfoPlaneCallback
from lightning_foresight.callbacks.log_checkpoint import LogCheckpoint
from lightning_foresight.callbacks.partial_information import PIDCallback

__all__ = [
    "EICallback",
    "ForesightCallback",
    "GradientNoiseScaleCallback",
    "InfoPlaneCallback",
    "LogCheckpoint",
    "PIDCallback",
]
