"""The layers of an information plane: which there are by default, which run, and what they give."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from lightning_foresight.functional._checks import fail
from lightning_foresight.functional._trace import clean_name, first_tensor
from lightning_foresight.probes.activations import REDUCTIONS
from lightning_foresight.probes.dataflow import Step, watch_dataflow
from lightning_foresight.probes.layers import listing
from lightning_foresight.probes.samples import batch_length, cut_batch, split_batch
from lightning_foresight.training.quantizers import QuantizeActivations

_WITH_CHANNELS = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.modules.pooling._MaxPoolNd)
_MOST_NAMES = 8  # in advice
_LINEAR = (nn.Linear, nn.modules.conv._ConvNd)
_NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
_WITH_TOKENS = (
    nn.Linear,
    nn.LayerNorm,
    nn.Embedding,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
)


def reached_layers(
    modules: dict[str, nn.Module],
    named: Container[str],
    run: Callable[[], Any],
    owner: str,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, nn.Module]:
    """Run the model once and return the layers that it calls, so that a layer apart does not cost all the others.

    Args:
        modules: The layers by name.
        named: Names that the user wrote out: one of them that is never called is an error, as is a choice of no other.
        run: Runs the model.
        owner: Who asks, for error texts.
        reduce: How outputs become rows, for a check that they have what it averages over.

    Raises:
        ValueError: If the model cannot be run, a layer that the user named is never called, or none is, or outputs are
            not what ``reduce`` takes.
    """
    shapes: dict[int, tuple[int, ...]] = {}

    def watch(module: nn.Module, args: Any, output: Any) -> None:
        activation = first_tensor(output)
        shapes[id(module)] = () if activation is None else tuple(activation.shape)

    handles = [module.register_forward_hook(watch) for module in modules.values()]
    try:
        run()
    except Exception as error:
        raise ValueError(
            f"{owner}: the model cannot be run on the samples ({type(error).__name__}: {error}). Override "
            "run_model(self, pl_module, batch) of the callback, or pass another dataloader=."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    reached = {name: module for name, module in modules.items() if id(module) in shapes}
    silent = [name for name in modules if name not in reached]
    missing = [name for name in silent if name in named or not reached]
    if missing:
        raise ValueError(
            f"{owner}: {listing(missing)} never called in a forward pass. Choose layers that the model's forward runs."
        )
    for name, module in reached.items():
        _check_reduction(owner, reduce, name, module, shapes[id(module)])
    return reached


def _check_reduction(owner: str, reduce: Any, name: str, module: nn.Module, shape: tuple[int, ...]) -> None:
    """Refuse to average over what an output does not have, which would go unseen: channels as tokens, and so on."""
    pixels = len(shape) > 3 or (len(shape) > 2 and isinstance(module, _WITH_CHANNELS))
    tokens = len(shape) == 3 and isinstance(module, _WITH_TOKENS)
    for word in ("mean_tokens", "last_token", "mean_pixels"):
        if reduce is not REDUCTIONS[word] or not (tokens if word == "mean_pixels" else pixels):
            continue
        axes = "(samples, tokens, features)" if tokens else "(samples, channels, positions ...)"
        choose = "'mean_tokens' or 'last_token'" if tokens else "'mean_pixels', the mean of each channel"
        fail(owner, "reduce", word, f"{name} gives {axes}, here {shape}; choose {choose}, 'flatten' or a function.")


def wrong_rows(capture: Callable[[Any], Mapping[str, Tensor]], batch: Any) -> dict[str, tuple[int, int]]:
    """Return the rows of layers that do not give one for each sample, and the samples that they were given.

    Asked of the batch without its last sample, too: as many time steps as samples would not show otherwise.
    """
    count = batch_length(split_batch(batch)[0])
    wrong = _not_as_many(capture(batch), count)
    fewer = max(1, count - 1)
    try:
        captured = capture(cut_batch(batch, fewer))
    except Exception:  # it holds tensors that belong to no sample, and cannot be cut
        return wrong
    return _not_as_many(captured, fewer) | wrong


def _not_as_many(captured: Mapping[str, Tensor], count: int) -> dict[str, tuple[int, int]]:
    return {layer: (len(rows), count) for layer, rows in captured.items() if len(rows) != count}


def refuse_rows(wrong: Mapping[str, tuple[int, int]], owner: str) -> None:
    """Require that no layer gives something else than one row for each sample.

    Raises:
        ValueError: If a layer puts another axis first, such as that of time steps.
    """
    if wrong:
        found = ", ".join(f"{layer} has {rows} rows for {count} samples" for layer, (rows, count) in wrong.items())
        raise ValueError(
            f"{owner}(reduce): {found}; expected one row each. If its first axis is not that of the samples, pass a "
            "function, for instance reduce=lambda activation: activation.transpose(0, 1).flatten(1), or leave it out "
            "of layers=."
        )


def has_output(name: str, module: nn.Module) -> bool:
    """Say whether a module's output can be watched."""
    return name != "" and not isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict))


def default_layers(
    model: nn.Module, run: Callable[[], Any], measurable: Callable[[nn.Module], bool]
) -> Callable[[str, nn.Module], bool]:
    """Return the rule for activation modules, bare bottlenecks and the last layer with weights; all of those without.

    Where a quantiser follows one of them, its levels are what the next layer reads: it is taken instead.

    Args:
        model: The model.
        run: Runs it on a few samples.
        measurable: Says whether a bottleneck gives what can be measured; one that does not is no reason to stop a run.
    """
    leaves = [module for module in model.modules() if next(module.children(), None) is None]
    weighted = [module for module in leaves if _has_weights(module)]
    activations = [module for module in leaves if _is_activation(module)]
    # A model that calls its activations as functions is watched behind its weights instead.
    bare = [module for module in _bottlenecks(model, run) if measurable(module)] if activations else []
    chosen = {id(module) for module in ([*activations, *bare, *weighted[-1:]] if activations else weighted)}
    quantised = {id(one) for one, following in pairwise(leaves) if isinstance(following, QuantizeActivations)}
    return lambda name, module: id(module) in chosen - quantised


def layers_in_words(model: nn.Module, modules: Mapping[str, nn.Module], run: Callable[[], Any]) -> str:
    """Say which layers were chosen, and behind which an activation is called as a function, by running the model."""
    text = f"measures the outputs of {listing(list(modules))}; layers= chooses others."
    try:
        bare = _before_functions(model, run)
    except Exception:  # few samples may be too few for the model, which ran on all; the rest is still worth saying
        return text
    if not bare:
        return text
    text += f" Behind {listing(bare)} forward calls an activation as a function, such as F.relu, which is no layer. "
    text += "Make it a module (nn.ReLU) to measure it"
    missed = [name for name in bare if name not in modules]
    if not missed:
        return f"{text}; the outputs above are what it takes."
    more = " and so on" if len(missed) > _MOST_NAMES else ""
    return f"{text}, or what it takes by layers={missed[:_MOST_NAMES]}{more}."


def _before_functions(model: nn.Module, run: Callable[[], Any]) -> list[str]:
    """Return the layers whose output goes into an activation that is no module; not the last, behind which is a loss.

    What goes elsewhere, as into a residual sum, is left out: no activation belongs there.
    """
    steps = watch_dataflow(model, run, lambda name, module: _has_weights(module)).steps
    last = next((step.name for step in reversed(steps) if step.kind == "layer"), None)
    modules = {clean_name(name) for name, _ in model.named_modules()}
    called = [
        layer.name
        for layer, step in _read_by(steps)
        if step.kind == "activation" and step.name.split(":")[0] not in modules and layer.name != last
    ]
    return list(dict.fromkeys(called))


def _bottlenecks(model: nn.Module, run: Callable[[], Any]) -> list[nn.Module]:
    """Return the linear layers that the next one reads without an activation between, as behind an encoder."""
    try:
        steps = watch_dataflow(model, run, lambda name, module: _has_weights(module)).steps
    except Exception:  # few samples may be too few for the model; on all of them it is run later
        return []
    readers = list(_read_by(steps))
    activated = {id(layer.module) for layer, step in readers if step.kind == "activation"}
    linear = [layer.module for layer, step in readers if all(isinstance(one.module, _LINEAR) for one in (layer, step))]
    bare = {id(module): module for module in linear if module is not None and id(module) not in activated}
    return list(bare.values())


def _read_by(steps: Sequence[Step]) -> Iterator[tuple[Step, Step]]:
    """Yield layers with the layers and activations that read them, looking through norms and what passes values on."""
    behind: dict[int, Step] = {}  # tensor -> the layer that it comes from
    for step in steps:
        layer = behind.get(id(step.source))
        if layer is not None and step.kind in ("layer", "activation"):
            yield layer, step
        if step.kind == "layer":
            behind[id(step.result)] = step
        elif layer is not None and (step.kind == "transparent" or step.name in _NORMS):
            behind[id(step.result)] = layer
        else:
            behind.pop(id(step.result), None)


def _is_activation(module: nn.Module) -> bool:
    kind = type(module)
    if kind is QuantizeActivations:
        return True
    return kind.__module__ == "torch.nn.modules.activation" and not isinstance(module, nn.MultiheadAttention)


def _has_weights(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
