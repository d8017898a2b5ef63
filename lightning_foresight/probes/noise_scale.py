"""The noise scale at frozen weights, from as many batches as a wanted precision takes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from lightning_foresight.functional._checks import check_int, fail
from lightning_foresight.functional._memory import chunks
from lightning_foresight.functional._swap import call_with
from lightning_foresight.functional.gradient_noise.noise_scale import NoiseScale
from lightning_foresight.functional.gradient_noise.pooled import pooled_noise_scale
from lightning_foresight.functional.gradient_noise.preconditioner import metric_roots
from lightning_foresight.functional.gradient_noise.quadrature import check_level
from lightning_foresight.probes.isolation import preserved_random_state
from lightning_foresight.probes.samples import batch_length


def probe_noise_scale(
    model: nn.Module,
    loss_fn: Callable[[Any, Any], Tensor],
    batches: Iterable[tuple[Any, Any]],
    *,
    rtol: float = 0.1,
    max_batches: int = 256,
    num_folds: int = 16,
    level: float = 0.95,
    preconditioner: Sequence[Tensor | None] | None = None,
    seed: int | None = 0,
    batch_size: Callable[[Any], int] = batch_length,
) -> NoiseScale:
    r"""Measure the noise scale of a model as it is, from several batches at the same weights.

    With the weights at rest every pair of batches can be compared, not only those of one step:

    .. math:: |G|^2 = \frac{1}{n (n - 1)} \sum_{i \ne j} g_i \cdot g_j

    and :math:`\operatorname{tr}\Sigma` follows from the mean of :math:`|g_j|^2`. Where noise dominates, this takes far
    fewer batches than comparing neighbours does. After every ``num_folds`` batches it looks whether the error is small
    enough.

    The model, its ``.grad``, hooks of parameters, buffers (BatchNorm's statistics) and global random states stay as
    they are. Layers act as in the mode that the model is in: in training mode dropout is part of the noise, as in
    training.

    Args:
        model: Called as ``model(inputs)``; its parameters that require gradients are measured.
        loss_fn: ``loss_fn(outputs, targets)``, a mean over the examples of a batch.
        batches: Pairs ``(inputs, targets)`` in random order, at least 3, on the model's device; a DataLoader, say.
        rtol: Stop when the standard error of ``b_simple`` is at most this share of it, and its interval is bounded.
        max_batches: Stop after so many in any case.
        num_folds: Sums of gradients to keep, each of the size of the parameters; the errors come from leaving them out
            one by one. Fewer take less memory and give wider intervals.
        level: Coverage of the interval of ``b_simple``.
        preconditioner: Measure in the metric :math:`g^\top P g`, as from
            :func:`~lightning_foresight.functional.adam_preconditioner` for the parameters that require gradients.
        seed: Seeds torch's random draws inside, such as a loader's order; ``None`` goes on from the present state,
            which is restored in any case.
        batch_size: Counts the examples of ``inputs``; by default the length of the first tensor in them.

    Returns:
        :class:`~lightning_foresight.functional.NoiseScale`; ``num_samples`` says how many batches it took.

    Warns:
        UserWarning: If the batches, or ``max_batches`` of them, are too few for the wanted precision.

    Raises:
        ValueError: If an argument is out of range, there are fewer than 3 batches, or a gradient is not finite.
        TypeError: If ``batches`` is a dataset, which holds examples, or nothing that can be iterated over.

    References:
        McCandlish et al. (2018), An empirical model of large-batch training, arXiv 1812.06162; Hoeffding (1948), A
        class of statistics with asymptotically normal distribution, Ann. Math. Stat. 19(3).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> from lightning_foresight.probes import probe_noise_scale
        >>> x = torch.randn(4096, 3, generator=torch.Generator().manual_seed(0))
        >>> loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=16, shuffle=True)
        >>> model = nn.Linear(3, 1)
        >>> scale = probe_noise_scale(model, nn.functional.mse_loss, loader, rtol=0.1)
        >>> bool(scale.b_simple.std_error <= 0.1 * scale.b_simple.value)
        True
        >>> model.weight.grad is None
        True
    """
    return probe_noise_scale_for(
        "probe_noise_scale", model, loss_fn, batches,
        rtol=rtol, max_batches=max_batches, num_folds=num_folds, level=level,
        preconditioner=preconditioner, seed=seed, batch_size=batch_size,
    )  # fmt: skip


def probe_noise_scale_for(
    owner: str,
    model: nn.Module,
    loss_fn: Callable[[Any, Any], Tensor],
    batches: Iterable[tuple[Any, Any]],
    *,
    rtol: float,
    max_batches: int,
    level: float,
    seed: int | None,
    batch_size: Callable[[Any], int],
    num_folds: int = 16,
    preconditioner: Sequence[Tensor | None] | None = None,
) -> NoiseScale:
    """Measure as :func:`probe_noise_scale`, for ``owner``, whom messages name."""
    if not isinstance(rtol, (int, float)) or not rtol > 0:
        fail(owner, "rtol", rtol, "expected a positive relative error, such as 0.1.")
    check_loader(owner, "batches", batches)
    check_level(owner, "level", level)
    check_int(owner, "max_batches", max_batches, 3)
    check_int(owner, "num_folds", num_folds, 3)
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not named:
        raise ValueError(f"{owner}(model): no parameter requires a gradient; nothing to measure.")
    roots = metric_roots(owner, named, preconditioner)
    folds = _Folds([p for name, p in named.items() if roots is None or name in roots], num_folds)
    scale = None
    with preserved_random_state(seed), torch.inference_mode(False), torch.enable_grad():
        # Buffers that a forward pass changes are copies, and leaves of our own fire no hook of the run's.
        buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
        leaves = {name: parameter.detach().requires_grad_() for name, parameter in named.items()}
        for batch in batches:
            inputs, targets = _pair(owner, batch)
            size = batch_size(inputs)
            if not size:
                raise ValueError(
                    f"{owner}(batches): got inputs without a tensor of examples; expected at least one example."
                )
            loss = loss_fn(call_with(model, {**leaves, **buffers}, inputs), targets)
            wanted = leaves if roots is None else {name: leaves[name] for name in roots}
            gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, materialize_grads=True)
            if roots is not None:
                gradients = tuple(g * root.to(g.dtype) for g, root in zip(gradients, roots.values(), strict=True))
            folds.add(gradients, size)
            if folds.total == max_batches:
                break
            if folds.total % num_folds == 0:
                scale = folds.noise_scale(owner, level)
                b, bounded = scale.b_simple, scale.b_simple.interval(level)[1].isfinite()
                if bool(bounded & (b.std_error <= rtol * b.value)):
                    return scale
    scale = folds.noise_scale(owner, level)
    b = scale.b_simple
    if not bool(b.std_error <= rtol * b.value):
        more = f"max_batches above {max_batches}" if folds.total == max_batches else "more of them"
        warnings.warn(
            f"{owner}(rtol={rtol}): not reached by {folds.total} batches, where the relative error is "
            f"{float(b.std_error / b.value.abs()):.4g}. Pass {more}.",
            stacklevel=3,
        )
    return scale


def check_loader(owner: str, argument: str, source: Any) -> None:
    """Require something that batches come from: the items of a dataset are single examples."""
    if isinstance(source, Dataset) and not isinstance(source, IterableDataset):
        fail(owner, argument, source, "expected batches. Wrap the dataset: DataLoader(dataset, 32).", TypeError)
    if not isinstance(source, Iterable):
        fail(owner, argument, source, "expected a DataLoader, or another iterable of batches.", TypeError)


class _Folds:
    """Sums of the gradients of batches that are dealt out in turn."""

    def __init__(self, parameters: Sequence[Tensor], num_folds: int) -> None:
        first = parameters[0]
        self.dtype = torch.promote_types(first.dtype, torch.float32)
        self.wide = torch.float32 if first.device.type == "mps" else torch.float64
        self.sums = [p.new_zeros(num_folds, p.numel(), dtype=self.dtype) for p in parameters]
        self.sq_norms, self.inverse_sizes, self.counts = (
            torch.zeros(num_folds, dtype=self.wide, device=first.device) for _ in range(3)
        )
        self.total = 0

    def add(self, gradients: Sequence[Tensor], size: int) -> None:
        fold = self.total % len(self.counts)
        dense = [gradient.detach().to_dense().flatten().to(self.dtype) for gradient in gradients]
        for total, gradient in zip(self.sums, dense, strict=True):
            total[fold] += gradient
        self.sq_norms[fold] += torch.stack([gradient.square().sum() for gradient in dense]).sum()
        self.inverse_sizes[fold] += 1 / size
        self.counts[fold] += 1
        self.total += 1

    def noise_scale(self, owner: str, level: float) -> NoiseScale:
        if self.total < 3:
            fail(
                owner,
                "batches",
                self.total,
                "expected at least 3 batches, better 16 or more; their spread is the error.",
            )
        used = min(self.total, len(self.counts))
        gram = self.sq_norms.new_zeros(used, used)
        for total in self.sums:
            for part in chunks(total.shape[1], 2 * used * gram.element_size()):
                block = total[:used, part].to(self.wide)
                gram += block @ block.T
        if not bool(gram.isfinite().all()):
            raise ValueError(
                f"{owner}(batches): the gradient of one of the first {self.total} batches is NaN or infinite; expected "
                "a finite loss. Look for a diverged model or broken inputs."
            )
        parts = (self.sq_norms[:used], self.inverse_sizes[:used], self.counts[:used])
        return pooled_noise_scale(gram, *parts, level=level, dtype=self.dtype)


def _pair(owner: str, batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError(
            f"{owner}(batches): got a batch of type {type(batch).__name__}; expected pairs (inputs, targets). Make "
            "pairs of what your loader yields: ((batch, None) for batch in loader) passes all of it to the model."
        )
    return batch[0], batch[1]
