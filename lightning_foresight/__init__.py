"""Lightning callbacks and torchmetrics metrics that show what a loss curve does not."""

__version__ = "0.1.0"
