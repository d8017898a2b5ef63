"""Ways to train networks that these measures are about."""

from lightning_foresight.training.quantizers import QuantizeActivations

__all__ = ["QuantizeActivations"]
