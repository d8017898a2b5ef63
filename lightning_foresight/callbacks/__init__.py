"""Lightning callbacks: when to measure, and under which name."""

from lightning_foresight.callbacks._base import ForesightCallback

__all__ = ["ForesightCallback"]
