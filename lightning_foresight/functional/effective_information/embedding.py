"""EI of embeddings: the noise is a token, every one equally likely."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_foresight.functional.effective_information.binning import bins_or_outside, clamped_bins

Range = tuple[float, float]


def embedding_parts(tokens: Tensor, out_range: Range, out_bins: int) -> Tensor:
    r"""Return what the token tells about every output, in bits, exact: shape ``(1, embedding_dim)``.

    The map is deterministic, so that :math:`I(token; y_b) = H(y_b)`, the entropy of the bins of a column of weights.
    Outputs outside the range are dropped.

    Args:
        tokens: The outputs to every token ``(tokens, outputs)``.
        out_range: Range of the bins.
        out_bins: Number of bins.
    """
    codes = bins_or_outside(tokens, out_range, out_bins).T.long()
    counts = torch.zeros(len(codes), out_bins + 1, device=codes.device)
    counts.scatter_add_(1, codes, torch.ones_like(codes, dtype=counts.dtype))
    counts = counts[:, :-1].double() if counts.device.type != "mps" else counts[:, :-1]
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    return (
        (torch.special.entr(share).sum(1) / math.log(2))
        .unsqueeze(0)
        .to(torch.promote_types(tokens.dtype, torch.float32))
    )


def embedding_information(tokens: Tensor, out_range: Range, out_bins: int) -> Tensor:
    """Return what the token tells about the whole vector of output bins, in bits, exact.

    Outputs outside the range count to the outermost bins.
    """
    codes = clamped_bins(tokens, out_range, out_bins)
    counts = torch.unique(codes, dim=0, return_counts=True)[1].double()
    return (torch.special.entr(counts / len(codes)).sum() / math.log(2)).to(
        torch.promote_types(tokens.dtype, torch.float32)
    )
