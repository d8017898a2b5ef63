"""Which tensor goes where in a forward pass: what a layer reads, and what is applied to its output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_foresight.functional._trace import clean_name, first_tensor

# Functions that stand for an activation module; each makes one from the call's keyword arguments.
_FUNCTIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": lambda *_, **__: nn.ReLU(),
    "relu_": lambda *_, **__: nn.ReLU(),
    "relu6": lambda *_, **__: nn.ReLU6(),
    "sigmoid": lambda *_, **__: nn.Sigmoid(),
    "tanh": lambda *_, **__: nn.Tanh(),
    "leaky_relu": lambda slope=0.01, *_, **kw: nn.LeakyReLU(kw.get("negative_slope", slope)),
    "elu": lambda alpha=1.0, *_, **kw: nn.ELU(kw.get("alpha", alpha)),
    "selu": lambda *_, **__: nn.SELU(),
    "softplus": lambda beta=1.0, *_, **kw: nn.Softplus(kw.get("beta", beta)),
    "softsign": lambda *_, **__: nn.Softsign(),
    "logsigmoid": lambda *_, **__: nn.LogSigmoid(),
    "hardtanh": lambda low=-1.0, high=1.0, *_, **kw: nn.Hardtanh(kw.get("min_val", low), kw.get("max_val", high)),
    "hardsigmoid": lambda *_, **__: nn.Hardsigmoid(),
    "hardswish": lambda *_, **__: nn.Hardswish(),
    "gelu": lambda *_, **kw: nn.GELU(kw.get("approximate", "none")),
    "silu": lambda *_, **__: nn.SiLU(),
    "mish": lambda *_, **__: nn.Mish(),
    "softmax": lambda dim=-1, *_, **kw: nn.Softmax(kw.get("dim", dim)),
    "log_softmax": lambda dim=-1, *_, **kw: nn.LogSoftmax(kw.get("dim", dim)),
}
ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Softsign,
    nn.LogSigmoid, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.GELU, nn.SiLU, nn.Mish, nn.Softmax, nn.LogSoftmax,
)  # fmt: skip

# What leaves values within their range, and units apart: looked through on the way to a neighbour.
_TRANSPARENT_FUNCTIONS = {
    *("flatten", "view", "reshape", "permute", "transpose", "contiguous", "squeeze", "unsqueeze", "__getitem__", "to"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d"),
    *(f"{kind}_pool{axes}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for axes in (1, 2, 3)),
}
TRANSPARENT_MODULES = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Flatten, nn.Unflatten,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip


class Step(NamedTuple):
    """One call in a forward pass: of a module, or of a function that is an activation or only passes values on.

    Attributes:
        kind: ``"layer"``, ``"activation"``, ``"transparent"`` or ``"other"``.
        name: Qualified name of a module, ``name:2`` at its second call; the function's name otherwise.
        module: The module, or the one that stands for the function.
        source: What it read.
        result: What it gave.
    """

    kind: str
    name: str
    module: nn.Module | None
    source: Tensor
    result: Tensor

    @property
    def passes_on(self) -> bool:
        """Whether values keep their range and units stay apart; layers that do so may be watched themselves."""
        return self.kind == "transparent" or isinstance(self.module, TRANSPARENT_MODULES)


class Dataflow(NamedTuple):
    """The steps of a forward pass in order. Holds their tensors: let it go soon."""

    steps: list[Step]

    def activation_after(self, at: int) -> nn.Module | None:
        """Return the activation that is applied to the result of step ``at``, if one is."""
        result = self.steps[at].result
        for step in self.steps[at + 1 :]:
            if step.source is not result:
                continue
            if step.kind == "activation":
                return step.module
            if not step.passes_on:
                return None
            result = step.result
        return None

    def before(self, at: int) -> Step | None:
        """Return the step whose values step ``at`` reads, looking through what passes values on; None at the start."""
        source = self.steps[at].source
        found = None
        for step in reversed(self.steps[:at]):
            if step.result is not source:
                continue
            found, source = step, step.source
            if not step.passes_on:
                return step
        return found


class _Functions(TorchFunctionMode):
    def __init__(self, steps: list[Step]) -> None:
        super().__init__()
        self.steps = steps

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        source, output = first_tensor((args[:1], kwargs.get("input"))), first_tensor(result)
        if source is None or output is None:
            return result
        if name in _FUNCTIONS:
            module = _FUNCTIONS[name](*args[1:], **kwargs)
            self.steps.append(Step("activation", name, module, source, output))
        elif name in _TRANSPARENT_FUNCTIONS:
            self.steps.append(Step("transparent", name, None, source, output))
        else:
            self.steps.append(Step("other", name, None, source, output))
        return result


def watch_dataflow(model: nn.Module, forward: Callable[[], Any], layers: Callable[[str, nn.Module], bool]) -> Dataflow:
    """Run ``forward`` once and record the calls of layers, activations and what lies between them.

    Args:
        model: The model whose submodules are watched.
        forward: Runs the model once.
        layers: Which modules to record as layers, by qualified name and module.
    """
    steps: list[Step] = []
    times: Counter[str] = Counter()

    def watch(kind: str, name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        starts: list[int] = []

        def enter(module: nn.Module, args: Any) -> None:
            starts.append(len(steps))

        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            # One step in place of whatever the module did inside.
            begin = starts.pop()
            if kind != "layer" or not any(step.kind == "layer" for step in steps[begin:]):
                del steps[begin:]
            source, result = first_tensor((args, kwargs)), first_tensor(output)
            if source is None or result is None:
                return
            times[name] += 1
            unique = name if times[name] == 1 else f"{name}:{times[name]}"
            steps.append(Step(kind, unique, module, source, result))

        return enter, leave

    with ExitStack() as stack:
        for raw_name, module in model.named_modules():
            name = clean_name(raw_name)
            kind = (
                "layer"
                if layers(name, module)
                else "activation"
                if isinstance(module, ACTIVATIONS)
                else "transparent"
                if isinstance(module, TRANSPARENT_MODULES)
                else ""
            )
            if kind:
                enter, leave = watch(kind, name)
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(leave, with_kwargs=True).remove)
        stack.enter_context(_Functions(steps))
        forward()
    return Dataflow(steps)
