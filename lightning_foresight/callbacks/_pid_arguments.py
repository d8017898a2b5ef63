"""What PIDCallback takes, checked before a run so that a mistake is named where it was made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from lightning_foresight.callbacks._pid_codes import Limits, Quantizer, check_quantizer, is_noisy
from lightning_foresight.callbacks._pid_measures import KEYS
from lightning_foresight.callbacks._pid_sources import SourceRule, check_sources
from lightning_foresight.callbacks._samples import check_source
from lightning_foresight.functional._checks import check_bool, check_choice, check_int, describe, fail
from lightning_foresight.functional._trace import first_tensor
from lightning_foresight.functional.discrete_entropy import CORRECTIONS
from lightning_foresight.metrics.joint_table import JointTable
from lightning_foresight.probes.activations import REDUCTIONS


def check_measures(owner: str, measure: Any, quantizer: Quantizer) -> list[str | JointTable]:
    """Return the measures as a list.

    Raises:
        ValueError: For one that there is not, or one that noisy bins do not have.
    """
    measures = [measure] if isinstance(measure, (str, JointTable)) else measure
    if not isinstance(measures, Sequence) or not measures:
        fail(owner, "measure", measure, "expected 'complexity', 'invariants', a JointTable metric, or several.")
    for one in measures:
        if not isinstance(one, JointTable):
            check_choice(owner, "measure", one, KEYS)
    if is_noisy(quantizer) and any(isinstance(one, JointTable) for one in measures):
        fail(owner, "measure", measure, "noisy bins hold probabilities, and a metric counts samples.")
    return list(measures)


def check_arguments(
    owner: str,
    *,
    sources: SourceRule,
    target: Any,
    quantizer: Quantizer,
    limits: Limits,
    correction: str,
    null: bool,
    bootstrap: int,
    dataloader: Any,
    num_samples: int,
    reduce: str | Callable[[Tensor], Tensor],
) -> None:
    """Require arguments that a measurement can follow.

    Raises:
        TypeError: If a switch is neither True nor False, or ``dataloader`` holds no batches.
        ValueError: For whatever else there is not.
    """
    if not isinstance(sources, str) or sources != "auto":
        check_sources(owner, sources)
    if not callable(target) and target not in ("label", "prediction", "input"):
        expected = "expected one of 'label', 'prediction', 'input', or a function from a batch to integer labels."
        fail(owner, "target", target, expected)
    check_quantizer(owner, quantizer, limits)
    check_choice(owner, "correction", correction, CORRECTIONS)
    if correction != "none" and is_noisy(quantizer):
        fail(owner, "correction", correction, "noisy bins hold probabilities, and a bias is that of counts.")
    check_bool(owner, "null", null)
    check_int(owner, "bootstrap", bootstrap, 0)
    if bootstrap == 1:
        fail(owner, "bootstrap", bootstrap, "expected 0 for none, or at least 2 resamples to see a spread.")
    check_source(owner, dataloader)
    check_int(owner, "num_samples", num_samples, 2)
    if not callable(reduce):
        check_choice(owner, "reduce", reduce, REDUCTIONS)


def predictions(output: Any) -> Tensor:
    """Return the number of the largest output of every sample.

    Raises:
        ValueError: If the model has no output for each class.
    """
    tensor = first_tensor(output)
    if tensor is None or tensor.ndim < 2 or tensor.shape[1:].numel() < 2:
        got = type(output).__name__ if tensor is None else describe(tensor)
        raise ValueError(
            f"PIDCallback(target='prediction'): the model returned {got}; expected one output for each class, the "
            "largest of which is the prediction. Override run_model(self, pl_module, batch) to return such rows, for "
            "instance torch.stack((-logit, logit), 1), or pass target=function of the batch."
        )
    return tensor.flatten(1).argmax(1)
