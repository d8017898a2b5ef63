r"""Batched interior-point solver of the convex program behind the BROJA decomposition.

Over distributions q(t, y, z) with given marginals p(t, y) and p(t, z), minimise
:math:`f(q) = \sum q \log (q / q_{yz}) = -H_q(T \mid Y, Z)`. Its dual is a geometric program: maximise
:math:`\sum p_{ty} a_{ty} + \sum p_{tz} b_{tz}` where :math:`\sum_t e^{a_{ty} + b_{tz}} \le 1` for all y, z. Any a, b
can be lowered until they are feasible, so that every iterate certifies how far from the minimum it can be.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_TOWARDS_CENTRE = 0.1  # how much of the complementarity a step leaves
_TO_BOUNDARY = 0.99  # how far towards the nearest face a step goes
_MAX_STEPS = 80


class Minimum(NamedTuple):
    """Bounds of the minimum in nats, ``(pairs,)``, and the dual variables that prove the lower one."""

    lower: Tensor
    upper: Tensor
    a: Tensor  # (pairs, T, Y)
    b: Tensor  # (pairs, T, Z)


def minimise(p_ty: Tensor, p_tz: Tensor, tol: float) -> Minimum:
    """Solve a batch of programs until each has a gap of at most ``tol`` nats, or makes no more progress.

    Args:
        p_ty: ``(pairs, T, Y)``, float64.
        p_tz: ``(pairs, T, Z)``, with the same marginals over ``T``.
        tol: Largest gap.
    """
    best = Minimum(
        torch.full_like(p_ty[:, 0, 0], -math.inf),
        torch.full_like(p_ty[:, 0, 0], math.inf),
        torch.zeros_like(p_ty),
        torch.zeros_like(p_tz),
    )
    active = torch.arange(len(p_ty), device=p_ty.device)
    p_t = p_ty.sum(2)
    q = p_ty[..., None] * p_tz[:, :, None, :] / torch.where(p_t > 0, p_t, 1)[..., None, None]
    s = torch.ones_like(q)
    for _ in range(_MAX_STEPS):
        step = _Step(p_ty, p_tz, q, s)
        lower, a, b = _feasible_dual(step.a, step.b, step.on, p_ty, p_tz)
        raised = lower > best.lower[active]
        best.lower[active[raised]] = lower[raised]
        best.a[active[raised]], best.b[active[raised]] = a[raised], b[raised]
        best.upper[active] = torch.fmin(best.upper[active], step.value)
        q, s = step.next()
        # Rounding errors stop a program that can get no closer; its gap says how far it got.
        going = (best.upper[active] - best.lower[active] > tol) & torch.isfinite(q + s).all((1, 2, 3))
        if not bool(going.all()):
            if not bool(going.any()):
                break
            active, p_ty, p_tz, q, s = active[going], p_ty[going], p_tz[going], q[going], s[going]
    return best


def _with_marginals(q: Tensor, p_ty: Tensor, p_tz: Tensor) -> Tensor:
    """Return a point near q with both marginals: shrink what is too large, then spread what is missing."""
    sums = q.sum(3)
    q = q * torch.where(sums > p_ty, p_ty / sums, 1)[..., None]
    sums = q.sum(2)
    q = q * torch.where(sums > p_tz, p_tz / sums, 1)[:, :, None, :]
    missing_y, missing_z = (p_ty - q.sum(3)).clamp_min(0), (p_tz - q.sum(2)).clamp_min(0)
    missing = missing_y.sum(2)
    return q + missing_y[..., None] * missing_z[:, :, None, :] / torch.where(missing > 0, missing, 1)[..., None, None]


class _Step:
    """One primal-dual Newton step; the Hessian is a rank-one change of a diagonal for every (y, z)."""

    def __init__(self, p_ty: Tensor, p_tz: Tensor, q: Tensor, s: Tensor) -> None:
        self.p_ty, self.p_tz, self.q, self.s = p_ty, p_tz, q, s
        self.on = (p_ty > 0)[..., None] & (p_tz > 0)[:, :, None, :]
        gradient = torch.where(self.on, (q / q.sum(1, keepdim=True)).log(), 0)
        # An upper bound only of a point that has the marginals exactly, which q has up to the last step's errors.
        point = _with_marginals(q, p_ty, p_tz)
        together = point.sum(1, keepdim=True)
        self.value = (torch.special.xlogy(point, point) - torch.special.xlogy(point, together)).sum((1, 2, 3))
        size = self.on.sum((1, 2, 3))
        self.mu = (_TOWARDS_CENTRE * (q * s).sum((1, 2, 3)) / size)[:, None, None, None]
        self.gradient = torch.where(self.on, gradient - self.mu / q, 0)
        # Inverse Hessian: diag(d) + d d^T / w, where w = q_yz - sum(d), written without the difference.
        self.d = q / (1 + s)
        w = (self.d * s).sum(1, keepdim=True)
        self.scaled = torch.where(w > 0, self.d / w.sqrt(), 0)
        self.a, self.b = self._multipliers()

    def _inverse_hessian(self, x: Tensor) -> Tensor:
        return self.d * x + self.scaled * (self.scaled * x).sum(1, keepdim=True)

    def _multipliers(self) -> tuple[Tensor, Tensor]:
        """Solve the normal equations, first for b with a eliminated: for every y, a has its own block."""
        (pairs, num_t, num_y), num_z = self.p_ty.shape, self.p_tz.shape[2]
        size = num_t * num_z
        inverse = self.scaled[:, :, None] * self.scaled[:, None]  # (pairs, T, T, Y, Z)
        inverse.diagonal(dim1=1, dim2=2).add_(self.d.permute(0, 2, 3, 1))
        block_a = inverse.sum(4).permute(0, 3, 1, 2)  # (pairs, Y, T, T)
        block_a.diagonal(dim1=2, dim2=3).add_((self.p_ty == 0).transpose(1, 2))
        block_b = inverse.sum(3)  # (pairs, T, T, Z)
        root = torch.linalg.cholesky_ex(block_a)[0]
        cross = inverse.permute(0, 3, 1, 2, 4).reshape(pairs, num_y, num_t, size)
        cross = torch.linalg.solve_triangular(root, cross, upper=False)
        flat = cross.reshape(pairs, num_y * num_t, size)
        schur = torch.bmm(flat.transpose(1, 2), flat).neg_()
        diagonal = schur.view(pairs, num_t, num_z, num_t, num_z).diagonal(dim1=2, dim2=4)
        diagonal += block_b
        # For each t, adding a constant to b and taking it from a changes nothing: fix it by a multiple of ones.
        scale = block_b.diagonal(dim1=1, dim2=2).mean((1, 2))
        present = (self.p_tz > 0).to(self.d.dtype)
        schur.view(pairs, num_t, num_z, num_t, num_z).diagonal(dim1=1, dim2=3).add_(
            (scale[:, None, None, None] * present[..., None] * present[:, :, None]).permute(0, 2, 3, 1)
        )
        schur.diagonal(dim1=1, dim2=2).add_((1 - present).view(pairs, size) + 1e-15 * scale[:, None])
        moved = self._inverse_hessian(self.gradient)
        right_a = torch.where(self.p_ty > 0, moved.sum(3) + self.p_ty - self.q.sum(3), 0)
        right_b = torch.where(self.p_tz > 0, moved.sum(2) + self.p_tz - self.q.sum(2), 0)
        half = torch.linalg.solve_triangular(root, right_a.transpose(1, 2)[..., None], upper=False)
        rest = right_b.reshape(pairs, size, 1) - flat.transpose(1, 2) @ half.reshape(pairs, -1, 1)
        b = torch.cholesky_solve(rest, torch.linalg.cholesky_ex(schur)[0])
        a = torch.linalg.solve_triangular(root.transpose(-1, -2), half - cross @ b[:, None], upper=True)
        return a[..., 0].transpose(1, 2), b.view(pairs, num_t, num_z)

    def next(self) -> tuple[Tensor, Tensor]:
        """Move q and its dual s, each as far as it stays positive."""
        residual = torch.where(self.on, self.gradient - self.a[..., None] - self.b[:, :, None, :], 0)
        relative = torch.where(self.on, -self._inverse_hessian(residual) / self.q, 0)
        to_s = torch.where(self.on, self.mu / self.q - self.s * (1 + relative), 0)
        return (
            self.q + _step_length(relative) * relative * self.q,
            self.s + _step_length(to_s / self.s) * to_s,
        )


def _step_length(relative: Tensor) -> Tensor:
    most = -relative.amin((1, 2, 3), keepdim=True)
    return torch.where(most > _TO_BOUNDARY, _TO_BOUNDARY / most, 1)


def _feasible_dual(a: Tensor, b: Tensor, on: Tensor, p_ty: Tensor, p_tz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lower a until the constraints hold, then raise b as far as they allow; return the value of the dual too."""

    def excess() -> Tensor:
        return torch.logsumexp(torch.where(on, a[..., None] + b[:, :, None, :], -math.inf), 1)  # (pairs, Y, Z)

    too_high = excess().amax(2)
    a = a - torch.where(too_high.isfinite(), too_high, 0)[:, None]
    too_high = excess().amax(1)
    b = b - torch.where(too_high.isfinite(), too_high, 0)[:, None]
    a, b = torch.where(p_ty > 0, a, 0), torch.where(p_tz > 0, b, 0)
    return (p_ty * a).sum((1, 2)) + (p_tz * b).sum((1, 2)), a, b
