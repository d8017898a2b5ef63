"""Writing scalars, error bands and figures to any Lightning logger.

Loggers are recognised by the names of their classes: importing the classes would need every tracker installed, and the
two Lightning packages have unrelated classes of the same name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_foresight.history import Row


def is_logger(logger: Any, name: str) -> bool:
    """Say whether a logger is of the class of that name, in either Lightning package or by inheritance."""
    return any(cls.__name__ == name for cls in type(logger).__mro__)


def write_rows(loggers: Iterable[Any], rows: Iterable[Row]) -> None:
    """Write rows under their own steps, with ``<key>_lower`` and ``<key>_upper`` where those are known.

    All rows of a step make one entry. An end that is infinite (an unbounded confidence set) is written as it is:
    TensorBoard leaves the band out there, while a missing point would cost it the whole chart.
    """
    by_step: dict[int, dict[str, float]] = {}
    for row in rows:
        metrics = by_step.setdefault(row.step, {})
        metrics[row.key] = row.value
        if row.has_interval:
            ends = {"lower": row.lower, "upper": row.upper}
            metrics |= {f"{row.key}_{name}": end for name, end in ends.items() if not math.isnan(end)}
    for logger in loggers:
        for step, metrics in sorted(by_step.items()):
            logger.log_metrics(metrics, step=step)


def write_layout(loggers: Iterable[Any], bands: Mapping[str, Iterable[str]]) -> None:
    """Tell TensorBoard to draw ``<key>``, ``<key>_lower`` and ``<key>_upper`` as one line with a band.

    TensorBoard shows only the last layout of a run: call this once, with the bands of everything that logs.

    Args:
        loggers: The loggers of the Trainer.
        bands: Keys with an interval, by category (a section of the Custom Scalars page).
    """
    layout = {
        category: {key: ["Margin", [key, f"{key}_lower", f"{key}_upper"]] for key in keys}
        for category, keys in bands.items()
    }
    layout = {category: charts for category, charts in layout.items() if charts}
    if not layout:
        return
    for logger in loggers:
        if is_logger(logger, "TensorBoardLogger"):
            logger.experiment.add_custom_scalars(layout)


def write_figure(loggers: Iterable[Any], key: str, figure: Figure, step: int, folder: str | None) -> list[Path]:
    """Give a figure to every logger that takes figures; save it as PNG for the others and return those paths.

    Args:
        loggers: The loggers of the Trainer.
        key: The figure's name, with its prefix.
        figure: The figure.
        step: The step under which it is logged.
        folder: Where PNG files go, ``<folder>/figures/<key>/<step>.png``; none are written when ``None``.
    """
    need_file = False
    for logger in loggers:
        if is_logger(logger, "TensorBoardLogger"):
            logger.experiment.add_figure(key, figure, global_step=step, close=False)
        elif is_logger(logger, "WandbLogger"):
            logger.log_image(key=key, images=[figure], step=step)
        elif is_logger(logger, "MLFlowLogger"):
            logger.experiment.log_figure(logger.run_id, figure, f"figures/{key}/{step}.png")
        elif is_logger(logger, "CometLogger"):
            logger.experiment.log_figure(figure_name=key, figure=figure, step=step)
        elif is_logger(logger, "NeptuneLogger"):
            logger.experiment[f"figures/{key}"].append(figure, step=step)
        elif not is_logger(logger, "DummyLogger"):
            need_file = True
    if not need_file or folder is None:
        return []
    path = Path(folder) / "figures" / key / f"{step}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return [path]
