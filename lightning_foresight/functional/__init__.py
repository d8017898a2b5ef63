"""Pure functions: tensors in, tensors out. No Lightning, no state."""

from lightning_foresight.functional.entropy import entropy
from lightning_foresight.functional.estimate import Estimate, make_estimate

__all__ = ["Estimate", "entropy", "make_estimate"]
