"""Whether labels are too few to say how well they are known: intervals then hold less often than they claim."""

from __future__ import annotations

import torch
from torch import Tensor

# Samples of a label that are enough for neighbours and noise, for kernel measures, whose values move with a label's
# share, and for counts, which divide them among cells; and the part of H(Y) below which the others do not count. Found
# by simulation of two and three labels, 3 to 100 of the rarer ones.
ENOUGH, ENOUGH_FOR_KERNELS, ENOUGH_FOR_COUNTS = 20, 30, 30
RARE_PART = 0.1


def has_rare_labels(counts: Tensor, enough: int = ENOUGH) -> bool:
    """Whether a tenth of H(Y) or more is that of labels with fewer samples than are enough for a 95% interval."""
    terms = torch.special.entr(counts.double() / counts.sum())
    return bool(terms[counts < enough].sum() > RARE_PART * terms.sum())
