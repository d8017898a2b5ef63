"""Lightning callbacks and torchmetrics metrics that show what a loss curve does not."""

from lightning_foresight.callbacks import (
    EICallback,
    ForesightCallback,
    GradientNoiseScaleCallback,
    InfoPlaneCallback,
    LogCheckpoint,
    PIDCallback,
)
from lightning_foresight.schedule import LogSchedule

__version__ = "0.1.0"

__all__ = [
    "EICallback",
    "ForesightCallback",
    "GradientNoiseScaleCallback",
    "InfoPlaneCallback",
    "LogCheckpoint",
    "LogSchedule",
    "PIDCallback",
    "__version__",
]
