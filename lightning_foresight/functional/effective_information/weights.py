"""Effective information of a network read off its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_foresight.functional._checks import a_module, check_base, check_choice, check_finite, takes
from lightning_foresight.functional._trace import LayerCall, first_tensor
from lightning_foresight.functional.effective_information._layer_sums import SHARES, network_sums
from lightning_foresight.functional.effective_information.operators import constant, layer_operator, sum_dtype
from lightning_foresight.functional.effective_information.weight_layers import trace_weight_layers


class WeightEI(NamedTuple):
    """Effective information of weights and its parts: scalar tensors on the device of the weights.

    Attributes:
        ei: ``degeneracy - determinism``.
        determinism: Mean entropy of a node's normalised out-weights.
        degeneracy: Entropy of the mean of the normalised out-weights.
        effectiveness: ``ei`` over ``log N``, N the number of input nodes; a pure number.
        layers: The same for every layer on its own, by name; empty for a layer.
    """

    ei: Tensor
    determinism: Tensor
    degeneracy: Tensor
    effectiveness: Tensor
    layers: dict[str, WeightEI]


@torch.no_grad()
def weight_ei(calls: Sequence[LayerCall], *, norm: str = "lin", base: float = 2, validate: bool = True) -> WeightEI:
    r"""Effective information of traced layers, with their weights as they are now.

    With the normalised connectivity matrices :math:`P^{(l)}` of the layers, stacked to one bipartite graph of N input
    nodes,

    .. math::
        \text{determinism} = \frac{1}{N} \sum_{l,i} H(P^{(l)}_{i\cdot}), \qquad
        \text{degeneracy} = H\Big(\frac{c}{\sum_j c_j}\Big),\; c_{l,j} = \sum_i P^{(l)}_{ij}, \qquad
        \text{ei} = \text{degeneracy} - \text{determinism} \ge 0

    and effectiveness = ei / log N. The matrices are never built: positions that see a convolution's kernel alike share
    their row sums and entropies, and the cost is a few passes over the weights, whatever the size of the image. Sums
    over one kernel are taken in the precision of the weights (at least float32; TF32 where it is allowed), all others
    in float64 where the device has it. Nothing here waits for the device when ``validate`` is off.

    Args:
        calls: Layers from :func:`trace_weight_layers`; on every step of a training run, the same list again.
        norm: How out-weights become distributions: ``"lin"``, ``"soft"`` or ``"sig"``. An absent connection is a weight
            of 0, which has a share under the last two.
        base: Base of the logarithm; 2 gives bits.
        validate: Require finite weights, which waits for the device. When off, NaN weights give NaN.

    Returns:
        The four values for the network, and for each layer on its own in ``layers``.

    Raises:
        ValueError: If ``calls`` is empty, ``norm`` is unknown, ``base`` is not above 1 or a weight is not finite.
        TypeError: If ``calls`` are none, a layer has no rule, or weights are complex, integer or quantised.

    Source:
        Hoel, Albantakis & Tononi (2013); Klein & Hoel (2020), arXiv 1907.03902, for networks and
        effectiveness (theirs calls :math:`\log N` minus each of our two parts determinism and degeneracy);
        torch-foresight for the layers of a neural network and the three norms.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import trace_weight_layers, weight_ei
        >>> model = torch.nn.Linear(4, 4)
        >>> _ = torch.nn.init.eye_(model.weight)
        >>> calls = trace_weight_layers(model, lambda: model(torch.zeros(1, 4)))
        >>> weight_ei(calls).ei
        tensor(2.)
    """
    check_choice("weight_ei", "norm", norm, SHARES)
    check_base("weight_ei", base)
    if not isinstance(calls, Sequence) or not all(isinstance(call, LayerCall) for call in calls):
        raise TypeError(
            f"weight_ei(calls): got a {type(calls).__name__}; expected the calls that trace_weight_layers(model, "
            "forward) returns. weight_effective_information(model, example_input) takes the model itself."
        )
    if not calls:
        raise ValueError("weight_ei(calls=[]): expected at least one layer, as trace_weight_layers lists them.")
    parameters = [p for p in (next(call.module.parameters(), None) for call in calls) if p is not None]
    device = parameters[0].device if parameters else torch.device("cpu")
    operators = [layer_operator(call, device) for call in calls]
    if validate:
        for call, operator in zip(calls, operators, strict=True):
            check_finite("weight_ei", f"weight of {call.name}", operator.kernel)
    double = not parameters or any(parameter.dtype == torch.float64 for parameter in parameters)
    # Autocast would round the weights to bfloat16.
    with torch.autocast(device.type, enabled=False):
        sums = network_sums(operators, norm, device)
    num_inputs = [operator.num_inputs for operator in operators]
    # One column a layer, the network last.
    sums = torch.cat([sums, sums.sum(1, keepdim=True)], 1)
    parts = _finish(sums, [*num_inputs, sum(num_inputs)], base).to(sum_dtype(device) if double else torch.float32)
    ei, determinism, degeneracy, effectiveness = (part.unbind() for part in parts)
    layers = {
        call.name: WeightEI(ei[at], determinism[at], degeneracy[at], effectiveness[at], {})
        for at, call in enumerate(calls)
    }
    return WeightEI(ei[-1], determinism[-1], degeneracy[-1], effectiveness[-1], layers)


def _finish(sums: Tensor, num_inputs: Sequence[int], base: float) -> Tensor:
    """Turn the sums, ``(3, layers)``, into ei, determinism, degeneracy and effectiveness, ``(4, layers)``."""
    entropies, totals, column_logs = sums
    log_base = math.log(base)
    counts = constant(tuple(num_inputs), sums.device, sums.dtype)
    determinism = entropies / counts / log_base
    # H(c / total) = log total - sum(c log c) / total; a network without a positive weight has none.
    degeneracy = torch.where(totals == 0, 0.0, totals.log() - column_logs / totals) / log_base
    ei = (degeneracy - determinism).clamp_min(0)
    largest = counts.log() / log_base
    effectiveness = torch.where(largest == 0, 0.0, ei / largest)
    return torch.stack([ei, determinism, degeneracy, effectiveness])


@takes(model=a_module)
def weight_effective_information(
    model: nn.Module,
    example_input: Any,
    *,
    norm: str = "lin",
    layers: Callable[[str, nn.Module], bool] | Sequence[str] | None = None,
    base: float = 2,
) -> WeightEI:
    r"""Effective information of a network from its weights.

    :math:`\text{ei} = H(\langle W^\text{out} \rangle) - \langle H(W^\text{out}) \rangle`: how much the node that a
    connection leads to says about the node it came from, when each node's out-weights are read as the probabilities of
    a step. See :func:`weight_ei` for the formula and the meaning of its parts.

    Args:
        model: The network. It is run once, without gradients and in eval mode; modes are put back.
        example_input: What ``model`` is called with, batch first; a tuple is spread over its arguments.
        norm: ``"lin"`` (drop negative weights), ``"soft"`` (softmax) or ``"sig"`` (logistic function).
        layers: Which layers: a predicate of qualified name and module, or names; all of them when ``None``.
        base: Base of the logarithm; 2 gives bits.

    Returns:
        ``ei``, ``determinism``, ``degeneracy``, ``effectiveness`` and the same of every layer in ``layers``.
        ``determinism`` is torch-foresight's :math:`\langle H(W_{out}) \rangle`: 0 for an identity.

    Raises:
        ValueError: If no layer can be measured, a name is unknown, an argument is out of range or a weight not finite.
        TypeError: If weights are complex, integer or quantised.

    Source:
        Klein & Hoel (2020), arXiv 1907.03902; torch-foresight.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import weight_effective_information
        >>> conv = torch.nn.Conv2d(1, 1, 1)
        >>> _ = torch.nn.init.ones_(conv.weight)
        >>> result = weight_effective_information(conv, torch.zeros(1, 1, 8, 8))
        >>> result.ei, result.effectiveness
        (tensor(6.), tensor(1.))
    """
    arguments = example_input if isinstance(example_input, tuple) else (example_input,)
    if first_tensor(arguments) is None:
        raise ValueError(
            f"weight_effective_information(example_input={example_input!r}): expected a tensor, or a tuple of "
            "arguments that holds one. Pass one batch as the model gets it."
        )
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            calls = trace_weight_layers(model, lambda: model(*arguments), layers)
    finally:
        for module, mode in training.items():
            module.training = mode
    return weight_ei(calls, norm=norm, base=base)
