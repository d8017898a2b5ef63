"""A second, independent look at the gradient noise of one batch: the difference of two random halves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from lightning_foresight.functional._random import own_seed
from lightning_foresight.probes.gradient_observer import GradientObserver
from lightning_foresight.probes.gradients import GradientNormProbe, GradientNorms, Metric, private_pass
from lightning_foresight.probes.isolation import preserved_random_state

# What autograd says when it cannot pass through a graph a second time, and what to do.
OBSTACLES = {
    "donated buffers": "torch.compile reuses memory that a second backward pass needs. Set "
    "torch._functorch.config.donated_buffer = False before compiling",
    "heckpoint": "reentrant activation checkpointing takes no torch.autograd.grad. Pass use_reentrant=False",
}


def balanced_signs(length: int, generator: torch.Generator) -> Tensor:
    """Draw +1 for a random half of ``length`` examples and -1 for the other; 0 for one of them when odd."""
    place = torch.randperm(length, generator=generator, device=generator.device)
    return (place - (length - 1) / 2).sign()


# Nodes that join a penalty on the weights with the mean over examples without mixing them.
ADDITIVE = ("AddBackward", "SubBackward", "StackBackward", "CatBackward")
# Nodes that a penalty on a parameter's entries is made of.
ELEMENTWISE = (
    *("Pow", "Mul", "Abs", "Sub", "Add", "Div", "Neg", "Sqrt", "Exp", "Log", "Clone", "ToCopy", "Clamp", "Where"),
    *("Sigmoid", "Tanh", "Relu", "Softplus"),
)


def batch_edges(loss: Tensor, batch_size: int) -> list[GradientEdge]:
    """Find where the graph of a loss, walked from its end, first carries one row per example.

    What comes before such an edge reaches the loss through rows that belong to single examples; neither the values
    there nor the loss function need be known. A penalty on the weights that is added to the loss is not an obstacle:
    it is the same for every example and has no part in the noise.

    Args:
        loss: A scalar with a graph.
        batch_size: Length of the first axis that tells rows of examples.

    Returns:
        The edges; none if some parameter reaches the loss together with the examples but not through such rows.
    """
    edges: list[GradientEdge] = []
    # Of each node walked through: whether it leads to rows of examples, and to a parameter without passing through any.
    leads: dict[Any, tuple[bool, bool]] = {}
    found: dict[tuple[Any, int], tuple[bool, bool]] = {}
    waiting: list[Any] = [loss.grad_fn]
    while waiting:
        node = waiting[-1]
        following = [GradientEdge(*pair) for pair in node.next_functions if pair[0] is not None]
        unknown = []
        for edge in following:
            key = (edge.node, edge.output_nr)
            if key in found:
                continue
            shape = edge.node._input_metadata[edge.output_nr].shape
            if hasattr(edge.node, "variable"):
                found[key] = (False, True)
            elif len(shape) and shape[0] == batch_size and not _is_of_weights(edge.node, shape):
                found[key] = (True, False)
                edges.append(edge)
            elif edge.node in leads:
                found[key] = leads[edge.node]
            else:
                unknown.append(edge.node)
        if unknown:
            waiting.extend(unknown)
            continue
        waiting.pop()
        ends = [found[edge.node, edge.output_nr] for edge in following]
        leads[node] = (any(rows for rows, _ in ends), any(leaf for _, leaf in ends))
        if all(leads[node]) and len(ends) > 1 and not node.name().startswith(ADDITIVE):
            mixed_here = any(rows and not leaf for rows, leaf in ends) or any(leaf and not rows for rows, leaf in ends)
            if mixed_here:
                return []
    return edges


def signed_gradient_norms(
    loss: Tensor,
    batch_size: int,
    parameters: Sequence[nn.Parameter],
    generator: torch.Generator,
    metric: Metric | None = None,
) -> GradientNorms | None:
    r"""Norms of :math:`\frac1B \sum_i e_i g_i` for random balanced signs: one more backward pass, none forward.

    The loss's gradient with respect to the rows of the network's output is multiplied by the signs and sent on to the
    parameters. Over all sign patterns, :math:`E|\frac1B \sum_i e_i g_i|^2 = m \operatorname{tr}\Sigma / B^2` with
    :math:`m = \sum_i e_i^2`, exactly. The graph is kept, no gradient is accumulated, nothing global is drawn from.

    Args:
        loss: The loss, a mean over examples, before its own backward pass.
        batch_size: Number of examples.
        parameters: The parameters to measure; those that require no gradient are passed over.
        generator: Draws the signs, on the device of the loss.
        metric: The diagonal metric of the norms, by position of the parameter.

    Returns:
        The norms, by position in ``parameters``; ``None`` if none of them is reached.

    Raises:
        ValueError: If there are fewer than two examples, or the loss does not come from rows of examples.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from lightning_foresight.probes.gradient_split import signed_gradient_norms
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> loss = layer(torch.tensor([[1.0], [3.0]])).mean()  # half the difference of the two gradients is 1
        >>> signed_gradient_norms(loss, 2, [layer.weight], torch.Generator()).norms
        tensor([1.])
        >>> layer.weight.grad is None
        True
    """
    reached = [parameter for parameter in parameters if parameter.requires_grad]
    if not reached:  # this loss is another optimizer's, and ours is toggled off
        return None
    if batch_size < 2:
        raise ValueError(
            f"signed split of a batch of {batch_size}: the noise of a gradient takes at least two examples. Use larger "
            'batches, or method="micro_batches" with accumulate_grad_batches.'
        )
    edges = batch_edges(loss, batch_size)
    if not edges:
        raise ValueError(
            "signed split: the loss does not depend on the parameters through tensors whose first axis is the batch "
            f"of {batch_size}. Expected a mean over the examples of a batch-first model. A model that is compiled "
            "together with its loss, or has the batch on another axis, is measured by "
            'method="micro_batches", if a step takes several batches: accumulate_grad_batches, or in manual '
            "optimization a step at every n-th batch. Backward passes on parts of a batch are not measured: let the "
            "DataLoader yield the parts."
        )
    signs = balanced_signs(batch_size, generator)
    with private_pass():
        gradients = torch.autograd.grad(loss, edges, retain_graph=True)
    signed: dict[Any, dict[int, Tensor]] = {}
    for edge, gradient in zip(edges, gradients, strict=True):
        rows = signs.to(gradient.dtype).reshape(-1, *[1] * (gradient.ndim - 1))
        signed.setdefault(edge.node, {})[edge.output_nr] = rows * gradient
    seeds = [signed[edge.node][edge.output_nr] for edge in edges]
    handles = [node.register_prehook(_replace(values)) for node, values in signed.items()]
    probe = GradientNormProbe(parameters, discard=True, metric=metric)
    probe.attach()
    probe.listening = True
    try:
        with private_pass():
            torch.autograd.grad(edges, reached, seeds, retain_graph=True, allow_unused=True)
        return probe.collect()
    except RuntimeError as error:
        for sign, advice in OBSTACLES.items():
            if sign in str(error):
                raise RuntimeError(f"signed split: {advice}, or measure by accumulate_grad_batches of 2.") from error
        raise
    finally:
        probe.remove()
        for handle in handles:
            handle.remove()


def _replace(values: dict[int, Tensor]) -> Callable[[Iterable[Tensor]], tuple[Tensor, ...]]:
    # Replaced, not multiplied: an edge may also lie behind another one, and its rows then carry the signs already.
    def hook(gradients: Iterable[Tensor]) -> tuple[Tensor, ...]:
        return tuple(values.get(position, gradient) for position, gradient in enumerate(gradients))

    return hook


def _is_of_weights(node: Any, shape: Any) -> bool:
    """Say whether a tensor holds one value for each entry of a parameter, which has as many rows as the batch."""
    seen, waiting = {node}, [node]
    while waiting:
        node = waiting.pop()
        if hasattr(node, "variable"):
            if node.variable.shape != torch.Size(shape):
                return False
        elif not node.name().startswith(ELEMENTWISE):
            return False
        following = {following for following, _ in node.next_functions if following is not None} - seen
        seen |= following
        waiting += following
    return True


class SplitObserver(GradientObserver):
    """Sends signed gradients through the graph of the loss once more, just before its own backward pass.

    Args:
        parameters: The parameters to measure.
        device: Where the loss lives.
        metric: The diagonal metric of the norms, by position of the parameter.
    """

    kind: ClassVar[str] = "split"
    once_a_step: ClassVar[bool] = True

    def __init__(self, parameters: Sequence[nn.Parameter], device: torch.device, metric: Metric | None = None) -> None:
        self.parameters = parameters
        self.metric = metric
        self._generator = torch.Generator(device)
        self._seen: GradientNorms | None = None

    def before_backward(self, loss: Tensor, batch_size: int, seed: int) -> None:
        """Draw the signs and measure."""
        self._seen = None
        self._generator.manual_seed(own_seed(seed))
        with preserved_random_state():  # hooks and backward functions of the user may draw
            self._seen = signed_gradient_norms(loss, batch_size, self.parameters, self._generator, self.metric)

    def collect(self) -> GradientNorms | None:
        """Return the norms of the signed gradients."""
        seen, self._seen = self._seen, None
        return seen

    def remove(self) -> None:
        """Forget what was seen; no hook outlives the pass."""
        self._seen = None
