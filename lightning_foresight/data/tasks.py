"""Small tasks that need no download: random access, the same on every machine."""

from __future__ import annotations

import os

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from lightning_foresight.functional._checks import check_int, fail


def all_bits(num_bits: int) -> Tensor:
    """All ``2^num_bits`` binary vectors, ``(2^n, n)`` of 0 and 1, the first bit changing slowest."""
    positions = torch.arange(num_bits - 1, -1, -1)
    return torch.arange(2**num_bits)[:, None] >> positions & 1


def _dataset(bits: Tensor, labels: Tensor) -> TensorDataset:
    return TensorDataset(2.0 * bits - 1, labels.long())


def parity(num_bits: int = 8) -> TensorDataset:
    """Whether the number of ones is odd, for all inputs of ``num_bits`` bits as -1 and 1; XOR for two.

    No proper subset of the bits knows anything of the label: all information is synergy of all.

    Args:
        num_bits: Number of bits, 1 to 20.

    Raises:
        ValueError: If the number is out of range.

    Example:
        >>> from lightning_foresight.data import parity
        >>> inputs, labels = parity(2).tensors
        >>> inputs.tolist(), labels.tolist()
        ([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], [0, 1, 1, 0])
    """
    _check_bits("parity", "num_bits", num_bits)
    bits = all_bits(num_bits)
    return _dataset(bits, bits.sum(1) % 2)


def recursive_majority(depth: int = 2, width: int = 3) -> TensorDataset:
    """Majority of majorities: bits vote in groups of ``width``, the winners vote again, ``depth`` times.

    Args:
        depth: Number of rounds.
        width: Size of a group, odd; there are ``width^depth`` bits, at most 20.

    Raises:
        ValueError: If the width is even or there are too many bits.

    Example:
        >>> from lightning_foresight.data import recursive_majority
        >>> len(recursive_majority(depth=2)), float(recursive_majority(depth=2).tensors[1].float().mean())
        (512, 0.5)
    """
    check_int("recursive_majority", "depth", depth, 1)
    check_int("recursive_majority", "width", width, 1)
    if width % 2 == 0:
        fail("recursive_majority", "width", width, "expected an odd number, so that no vote is a draw.")
    _check_bits("recursive_majority", "width ** depth", width**depth)
    bits = all_bits(width**depth)
    votes = bits
    while votes.shape[1] > 1:
        votes = (votes.view(len(bits), -1, width).sum(2) > width // 2).long()
    return _dataset(bits, votes[:, 0])


def checkerboard(num_samples: int = 1000, squares: int = 4, seed: int = 0) -> TensorDataset:
    """Points of the square from -1 to 1, labelled by the colour of a checkerboard of ``squares`` by ``squares``.

    Args:
        num_samples: Number of points.
        squares: Number of squares along a side.
        seed: Seed of the points.

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> from lightning_foresight.data import checkerboard
        >>> points, labels = checkerboard(100, squares=2).tensors
        >>> bool(((points.prod(1) < 0).long() == labels).all())
        True
    """
    check_int("checkerboard", "num_samples", num_samples, 1)
    check_int("checkerboard", "squares", squares, 1)
    points = 2 * torch.rand(num_samples, 2, generator=torch.Generator().manual_seed(seed)) - 1
    fields = ((points + 1) / 2 * squares).floor().clamp(max=squares - 1).long()
    return TensorDataset(points, fields.sum(1) % 2)


def spherical(max_degree: int = 5, seed: int = 0) -> TensorDataset:
    r"""A 12-bit task in the manner of Shwartz-Ziv & Tishby: a rule that no rotation of a sphere changes.

    The bits are signs :math:`x_i` at the vertices :math:`r_i` of an icosahedron. The label says whether a weighted
    power spectrum is above its median over all 4,096 inputs,

    .. math:: f(x) = \sum_{l=1}^{L} w_l \sum_{i,j} x_i x_j P_l(r_i \cdot r_j),

    with Legendre polynomials :math:`P_l` (the addition theorem: the inner sum is the power of degree l). The weights,
    drawn by ``seed``, are not those of the paper, which are not published; for its labels see :func:`tishby_labels`.

    Args:
        max_degree: Largest degree L.
        seed: Seed of the weights.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        Shwartz-Ziv & Tishby 2017, arXiv:1703.00810.

    Example:
        >>> from lightning_foresight.data import spherical
        >>> inputs, labels = spherical().tensors
        >>> inputs.shape, 0.4 < float(labels.float().mean()) < 0.6
        (torch.Size([4096, 12]), True)
    """
    check_int("spherical", "max_degree", max_degree, 2)
    check_int("spherical", "seed", seed, 0)
    golden = (1 + 5**0.5) / 2
    corners = [(0.0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    vertices = torch.tensor([corner[k:] + corner[:k] for corner in corners for k in range(3)], dtype=torch.float64)
    vertices = vertices / vertices.norm(dim=1, keepdim=True)
    cosines = (vertices @ vertices.T).clamp(-1, 1)
    weights = torch.randn(max_degree, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kernel = sum(
        weight * torch.special.legendre_polynomial_p(cosines, degree) for degree, weight in enumerate(weights, start=1)
    )
    bits = all_bits(12)
    signs = 2.0 * bits.double() - 1
    power = ((signs @ kernel) * signs).sum(1)
    # The symmetry makes many inputs equal: rounding keeps them equal, and so in one class.
    power = (power * 1e9).round()
    return _dataset(bits, power > power.median())


def tishby_labels(path: str | os.PathLike[str]) -> TensorDataset:
    """Read the 12-bit task as published, from the file ``var_u.mat`` that the authors' IDNNs program comes with.

    Args:
        path: Where the file lies; it is not part of this package. Reading it needs scipy.

    Raises:
        ImportError: If scipy is not installed.
        ValueError: If the file holds no array ``F`` of inputs and ``y`` of labels.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError("tishby_labels: reading a .mat file needs scipy; pip install scipy.") from error
    content = loadmat(os.fspath(path))
    if "F" not in content or "y" not in content:
        fail("tishby_labels", "path", str(path), "expected a .mat file with arrays F (inputs) and y (labels).")
    inputs = torch.as_tensor(content["F"]).float()
    return TensorDataset(inputs, torch.as_tensor(content["y"]).long().flatten()[: len(inputs)])


def _check_bits(owner: str, argument: str, num_bits: int) -> None:
    check_int(owner, argument, num_bits, 1)
    if num_bits > 20:
        fail(owner, argument, num_bits, "expected at most 20 bits: all inputs are listed.")
