"""One experiment over several seeds: centre and band of everything that was measured."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_foresight.functional._checks import check_choice, fail
from lightning_foresight.history import History, Row
from lightning_foresight.probes.isolation import preserved_random_state

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_foresight.callbacks import ForesightCallback

Run = Callable[[int], "Iterable[ForesightCallback | History]"]


class SummaryRow(NamedTuple):
    """One moment of one key over all seeds.

    Attributes:
        step: The step under which it was logged.
        epoch: Epochs completed.
        key: The key.
        center: Mean or median over the seeds.
        lower: Lower quantile over the seeds.
        upper: Upper quantile.
        num_runs: How many seeds have a value at this moment.
    """

    step: int
    epoch: float
    key: str
    center: float
    lower: float
    upper: float
    num_runs: int


class SeedEnsemble:
    """Run an experiment once a seed, and summarise what its callbacks measured.

    The band is the spread between seeds, not the error of a measurement.

    Args:
        run: Takes a seed, makes a model and a Trainer, fits, and returns the callbacks (or their histories). Global
            generators of torch, numpy and Python are seeded before, and restored after all runs.
        seeds: The seeds, distinct.

    Attributes:
        histories: By seed, one history of all callbacks.

    Raises:
        TypeError: If ``run`` is no function, or returns something else than callbacks and histories.
        ValueError: If there is no seed, one is there twice, or one is no integer.

    Example:
        >>> import torch
        >>> from lightning_foresight.ensemble import SeedEnsemble
        >>> from lightning_foresight.history import History
        >>> def run(seed):
        ...     history = History()
        ...     history.add(step=0, epoch=1.0, key="ei/network", value=torch.tensor(float(seed)))
        ...     return [history]
        >>> SeedEnsemble(run, seeds=range(5)).fit().summary(quantiles=(0.25, 0.75))[0]
        SummaryRow(step=0, epoch=1.0, key='ei/network', center=2.0, lower=1.0, upper=3.0, num_runs=5)
    """

    def __init__(self, run: Run, seeds: Sequence[int]) -> None:
        if not callable(run):
            fail("SeedEnsemble", "run", run, "expected a function from a seed to callbacks.", TypeError)
        self.seeds = list(seeds) if isinstance(seeds, Iterable) else []
        if not all(isinstance(seed, Integral) and not isinstance(seed, bool) for seed in self.seeds):  # numpy's, too
            fail("SeedEnsemble", "seeds", seeds, "expected integers.")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            fail("SeedEnsemble", "seeds", seeds, "expected distinct seeds, at least one, such as range(5).")
        self.run = run
        self.histories: dict[int, list[Row]] = {}

    def fit(self) -> SeedEnsemble:
        """Run the seeds that have not been run yet."""
        for seed in self.seeds:
            if seed in self.histories:
                continue
            rank_zero_info(f"SeedEnsemble: seed {seed}, {len(self.histories)} of {len(self.seeds)} runs done")
            with preserved_random_state(seed):
                np.random.seed(seed % 2**32)  # noqa: NPY002
                histories = _histories(self.run(seed))
            self.histories[seed] = [row for history in histories for row in history]
        return self

    def summary(
        self, center: Literal["median", "mean"] = "median", quantiles: tuple[float, float] = (0.05, 0.95)
    ) -> list[SummaryRow]:
        """Return centre and quantiles over the seeds for every key and moment.

        Args:
            center: ``"median"`` or ``"mean"``.
            quantiles: The lower and the upper one.
        """
        check_choice("SeedEnsemble.summary", "center", center, ("median", "mean"))
        if not _are_quantiles(quantiles):
            fail("SeedEnsemble.summary", "quantiles", quantiles, "expected 0 <= lower < upper <= 1.")
        if not self.histories:
            raise ValueError("SeedEnsemble.summary(): nothing was run yet; call fit() first.")
        moments: dict[tuple[str, int, float], list[float]] = {}
        for rows in self.histories.values():
            for row in rows:
                moments.setdefault((row.key, row.step, row.epoch), []).append(row.value)
        average = np.median if center == "median" else np.mean
        summary = []
        for (key, step, epoch), values in moments.items():
            lower, upper = (float(end) for end in np.quantile(values, quantiles))
            summary.append(SummaryRow(step, epoch, key, float(average(values)), lower, upper, len(values)))
        return summary

    def plot(
        self,
        keys: str | Sequence[str],
        *,
        center: Literal["median", "mean"] = "median",
        quantiles: tuple[float, float] = (0.05, 0.95),
        ylabel: str = "",
    ) -> Figure:
        """Draw keys over epochs with the band between the quantiles.

        Args:
            keys: One key or several.
            center: ``"median"`` or ``"mean"``.
            quantiles: The lower and the upper one.
            ylabel: Label of the vertical axis, with the unit; the key when there is one.
        """
        from lightning_foresight.plotting.curves import curves

        keys = [keys] if isinstance(keys, str) else list(keys)
        summary = self.summary(center, quantiles)
        known = {row.key for row in summary}
        for key in keys:
            if key not in known:
                fail("SeedEnsemble.plot", "keys", key, f"expected one of {', '.join(sorted(known))}.")
        lines = {
            key: [
                Row(row.step, row.epoch, key, row.center, row.lower, row.upper, row.num_runs, "estimate")
                for row in summary
                if row.key == key
            ]
            for key in keys
        }
        low, high = (f"{100 * quantile:g}%" for quantile in quantiles)
        title = f"{center} of {len(self.histories)} seeds, band {low} to {high}"
        return curves(lines, ylabel=ylabel or (keys[0] if len(keys) == 1 else ""), title=title)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write all values of all seeds to a CSV file with one line a value."""
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("seed", *Row._fields))
            writer.writerows((seed, *row) for seed, rows in self.histories.items() for row in rows)


def _histories(results: Any) -> list[History]:
    results = list(results) if isinstance(results, Iterable) and not isinstance(results, History) else [results]
    histories = [getattr(result, "history", result) for result in results]
    for result, history in zip(results, histories, strict=True):
        if not isinstance(history, History):
            expected = "expected callbacks of this package or their histories: end the function with return [callback]."
            fail("SeedEnsemble", "run", f"a function that returned {type(result).__name__}", expected, TypeError)
    return histories


def _are_quantiles(quantiles: Any) -> bool:
    return isinstance(quantiles, Sequence) and len(quantiles) == 2 and 0 <= quantiles[0] < quantiles[1] <= 1
