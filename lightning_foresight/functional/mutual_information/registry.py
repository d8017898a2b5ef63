"""The estimators by name, which questions each can answer, and the door to all of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from lightning_foresight.functional._checks import data, fail, takes
from lightning_foresight.functional.estimate import Estimate
from lightning_foresight.functional.mutual_information._bins import check_binning
from lightning_foresight.functional.mutual_information._of_layers import (
    auto_input,
    auto_label,
    check_auto_of_layers,
    probe_input,
)
from lightning_foresight.functional.mutual_information.auto import auto_pair
from lightning_foresight.functional.mutual_information.binned import binned_information, binned_pair, binned_planes
from lightning_foresight.functional.mutual_information.edge import check_edge, edge_label, edge_pair
from lightning_foresight.functional.mutual_information.gaussian import check_gaussian_copula, gaussian_copula_pair
from lightning_foresight.functional.mutual_information.gaussian_labels import gaussian_copula_label
from lightning_foresight.functional.mutual_information.kde import check_kde, kde_information
from lightning_foresight.functional.mutual_information.kernel_measures import MEASURES, check_measure, measure
from lightning_foresight.functional.mutual_information.ksg import check_ksg, ksg_pair
from lightning_foresight.functional.mutual_information.neural import OBJECTIVES, check_neural, neural_pair
from lightning_foresight.functional.mutual_information.noisy import check_noisy, noisy_information
from lightning_foresight.functional.mutual_information.probe import check_probe, probe_label
from lightning_foresight.functional.mutual_information.renyi import check_renyi, renyi_label, renyi_pair
from lightning_foresight.functional.mutual_information.ross import ksg_label
from lightning_foresight.functional.mutual_information.sliced import check_sliced, sliced_label, sliced_pair


class Estimator(NamedTuple):
    """What a named estimator can answer; ``None`` where it cannot.

    Attributes:
        summary: What it is, in a line.
        check: Raises ``ValueError`` for options out of range; its keyword arguments are the options.
        pair: ``(x, y, *, base, **options)``, mutual information of two sets of samples.
        input: ``(activations, inputs, *, base, **options)``, I(X;T) of a layer.
        label: ``(activations, labels, *, base, **options)``, I(T;Y) with integer labels.
        plane: ``(activations, labels, *, base, **options)``, both at once.
        planes: ``(layers, labels, *, base, **options)``, both of several layers at once, as a list.
        of_layers: Options that only the questions about a layer have.
        unit: Unit of the values at ``base=2``; empty for measures of dependence, which have none.
    """

    summary: str
    check: Callable[..., None]
    pair: Callable[..., Estimate] | None = None
    input: Callable[..., Estimate] | None = None
    label: Callable[..., Estimate] | None = None
    plane: Callable[..., tuple[Estimate, Estimate]] | None = None
    planes: Callable[..., list[tuple[Estimate, Estimate]]] | None = None
    of_layers: tuple[str, ...] = ()
    unit: str = "bits"

    @property
    def options(self) -> dict[str, Any]:
        """Names of the options and their defaults."""
        return _defaults(self.check)

    def options_of(self, question: str) -> dict[str, Any]:
        """Those of one question, ``"pair"``, ``"input"`` or ``"label"``."""
        left_out = self.of_layers if question == "pair" else ()
        return {name: default for name, default in self.options.items() if name not in left_out}


@functools.cache
def _defaults(check: Callable[..., None]) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(check).parameters.items()}


def _between(owner: str, pair: Callable[..., Estimate]) -> Callable[..., Estimate]:
    """I(X;T) by an estimator that compares two sets of samples."""

    def input_information(activations: Tensor, inputs: Tensor | None, **options: Any) -> Estimate:
        if inputs is None:
            raise ValueError(
                f"input_information(inputs=None): estimator {owner!r} compares the inputs with the activations; pass "
                "inputs= of shape (n, ...), or use 'binned', 'kde' or 'noisy'."
            )
        return pair(inputs, activations, **options)

    return input_information


ESTIMATORS: dict[str, Estimator] = {
    "auto": Estimator(
        "chosen by the data: counts, nearest neighbours, Gaussian copula; for a layer, declared noise",
        check_auto_of_layers,
        pair=auto_pair,
        input=auto_input,
        label=auto_label,
        of_layers=("noise_std", "relative_noise"),
    ),
    "binned": Estimator(
        "entropies of the cells that binning each unit makes",
        check_binning,
        pair=binned_pair,
        input=lambda activations, inputs, **options: binned_information(activations, **options)[0],
        label=lambda activations, labels, **options: binned_information(activations, labels, **options)[1],
        plane=binned_information,
        planes=binned_planes,
    ),
    "kde": Estimator(
        "bounds from pairwise distances for a layer with Gaussian noise",
        check_kde,
        input=lambda activations, inputs, **options: kde_information(activations, **options)[0],
        label=lambda activations, labels, **options: kde_information(activations, labels, **options)[1],
        plane=kde_information,
    ),
    "noisy": Estimator(
        "Monte Carlo over the mixture density of a layer with declared Gaussian noise",
        check_noisy,
        input=lambda activations, inputs, **options: noisy_information(activations, **options)[0],
        label=lambda activations, labels, **options: noisy_information(activations, labels, **options)[1],
        plane=noisy_information,
    ),
    "ksg": Estimator(
        "distances to nearest neighbours; with labels as Ross 2014, ties counted",
        check_ksg,
        pair=ksg_pair,
        input=_between("ksg", ksg_pair),
        label=ksg_label,
    ),
    "gaussian_copula": Estimator(
        "canonical correlations of normal scores, debiased",
        check_gaussian_copula,
        pair=gaussian_copula_pair,
        input=_between("gaussian_copula", gaussian_copula_pair),
        label=gaussian_copula_label,
    ),
    "renyi": Estimator(
        "eigenvalues of kernel matrices",
        check_renyi,
        pair=renyi_pair,
        input=_between("renyi", renyi_pair),
        label=renyi_label,
    ),
    "sliced": Estimator(
        "mean over random one-dimensional projections",
        check_sliced,
        pair=sliced_pair,
        input=_between("sliced", sliced_pair),
        label=sliced_label,
    ),
    "probe": Estimator(
        "held-out predictions of a small classifier; for I(X;T), declared noise",
        check_probe,
        input=probe_input,
        label=probe_label,
    ),
    "edge": Estimator("ensemble of shifted grids", check_edge, edge_pair, _between("edge", edge_pair), edge_label),
    **{
        objective: Estimator(
            f"held-out value of a critic trained with {objective}",
            check_neural,
            pair=partial(neural_pair, objective=objective),
            input=_between(objective, partial(neural_pair, objective=objective)),
            label=partial(neural_pair, objective=objective),
        )
        for objective in OBJECTIVES
    },
    **{
        name: Estimator(
            f"{name}, a measure of dependence without unit",
            check_measure(name),
            pair=measure(name),
            input=_between(name, measure(name)),
            label=measure(name),
            unit="",
        )
        for name in MEASURES
    },
}


def find_estimator(owner: str, name: str, question: str, options: dict[str, Any] | None = None) -> Estimator:
    """Return the named estimator, or say which names answer this question and which options it has.

    Args:
        owner: Who asks, for error texts.
        name: A name in :data:`ESTIMATORS`.
        question: ``"pair"``, ``"input"`` or ``"label"``: mutual information of two sets of samples, I(X;T), I(T;Y).
        options: Options to check against the estimator's own.

    Raises:
        ValueError: If there is no such estimator or option, it does not answer the question, or an option is out of
            range.

    Example:
        >>> from lightning_foresight.functional.mutual_information import find_estimator
        >>> sorted(find_estimator("example", "kde", "input").options)
        ['bound', 'noise_variance']
    """
    entry = ESTIMATORS.get(name)
    if entry is None or getattr(entry, question) is None:
        able = [key for key, each in ESTIMATORS.items() if getattr(each, question) is not None]
        does_not = "is not an estimator" if name not in ESTIMATORS else "cannot answer this question"
        what = {"pair": "two sets of samples", "input": "I(X;T) of a layer", "label": "I(T;Y) with integer labels"}
        fail(
            owner, "estimator", name, f"{does_not}; for {what[question]} expected one of {', '.join(map(repr, able))}."
        )
    assert entry is not None  # fail() raises
    able_to = entry.options_of(question)
    unknown = sorted(set(options or {}) - set(able_to))
    if unknown:
        raise ValueError(
            f"{owner}({', '.join(unknown)}): estimator {name!r} has no such option"
            f"{' of two sets of samples' if set(unknown) <= set(entry.of_layers) else ''}; expected "
            f"{', '.join(able_to) or 'none'}."
        )
    entry.check(**(options or {}))
    return entry


def check_has_unit(owner: str, name: str) -> None:
    """Require an estimator of information, which a measure of dependence is none.

    Raises:
        ValueError: If its values have no unit.
    """
    if ESTIMATORS[name].unit == "":
        able = [key for key, each in ESTIMATORS.items() if each.pair is not None and each.unit]
        fail(
            owner,
            "estimator",
            name,
            f"{name} is a measure of dependence without unit, and no information in bits. Call "
            f"lightning_foresight.functional.{name}(x, y) for it; for information expected one of "
            f"{', '.join(map(repr, able))}.",
        )


def check_plane_estimator(owner: str, name: str, options: dict[str, Any] | None = None) -> None:
    """Require an estimator that answers both questions of the information plane, with options that it has.

    Args:
        owner: Who asks, for error texts.
        name: A name in :data:`ESTIMATORS`.
        options: The estimator's own options.

    Raises:
        ValueError: As :func:`find_estimator`.
    """
    find_estimator(owner, name, "input", options)
    find_estimator(owner, name, "label", options)


@takes(x=data, y=data)
def mutual_information(x: Tensor, y: Tensor, estimator: str = "auto", base: float = 2, **options: Any) -> Estimate:
    """Mutual information between two sets of samples, by the estimator's name.

    Args:
        x: Samples, shape ``(n, ...)``; integers are discrete values.
        y: Samples, shape ``(n, ...)``, row i beside row i of ``x``.
        estimator: A name in :data:`ESTIMATORS` that compares two sets of samples, in a unit of information:
            :func:`~lightning_foresight.functional.hsic` and other measures of dependence are functions of their own.
        base: Base of the logarithm; 2 gives bits.
        **options: The estimator's own.

    Returns:
        The estimate, a scalar.

    Raises:
        ValueError: If the estimator or an option is not known, its values have no unit, or the samples are not what it
            needs.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import mutual_information
        >>> x = torch.tensor([0, 0, 1, 1])
        >>> mutual_information(x, 1 - x, estimator="binned").value.item()
        1.0
        >>> mutual_information(x.repeat(50), x.repeat(50)).method
        'auto: binned (chao_wang_jost, integer values)'
    """
    entry = find_estimator("mutual_information", estimator, "pair", options)
    check_has_unit("mutual_information", estimator)
    assert entry.pair is not None
    return entry.pair(x, y, base=base, **options)
