"""What a callback has measured so far."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_foresight.functional.estimate import Estimate


class Row(NamedTuple):
    """One measured value.

    Attributes:
        step: The step under which it is logged, Lightning's own (0 is the first optimizer step).
        epoch: Epochs completed; a fraction within an epoch.
        key: The full key, prefix included.
        value: The value.
        lower: Lower end of its interval; the value itself where it is exact, NaN where the error is unknown.
        upper: Upper end, likewise.
        num_samples: Samples behind the value; 0 for an exact result.
        kind: ``"exact"``, ``"estimate"``, ``"lower_bound"``, ``"upper_bound"``, ``"bracket"`` or ``"not_valid"``, as
            its :class:`~lightning_foresight.functional.Estimate` says; ``"plain"`` for a number without one.
    """

    step: int
    epoch: float
    key: str
    value: float
    lower: float
    upper: float
    num_samples: int
    kind: str

    @property
    def has_interval(self) -> bool:
        """Whether the row carries an error: it is no exact value, and at least one end is known."""
        return self.kind not in ("exact", "plain") and not (math.isnan(self.lower) and math.isnan(self.upper))


class _Pending(NamedTuple):
    step: int
    epoch: float
    keys: Sequence[str]
    block: Tensor  # (4, keys): value, lower, upper, num_samples
    kind: str


class History:
    """Rows of measured values; values wait on the device until :meth:`flush` fetches all of them in one transfer.

    Example:
        >>> import torch
        >>> from lightning_foresight.history import History
        >>> history = History()
        >>> history.add(step=0, epoch=1.0, key="ei/network", value=torch.tensor(2.5))
        >>> history["ei/network"][0].value
        2.5
        >>> history.to_dict()["ei/network"]["step"]
        [0]
    """

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._pending: list[_Pending] = []
        self.dropped: list[Row] = []  # values that came out as NaN, which are no rows of the history

    def add(
        self, *, step: int, epoch: float, key: str | Sequence[str], value: Estimate | Tensor, level: float = 0.95
    ) -> None:
        """Add one value, or a vector of values under as many keys, without waiting for the device.

        Args:
            step: The step under which it is logged.
            epoch: Epochs completed.
            key: One key for a scalar, or a sequence of keys for a vector.
            value: An :class:`~lightning_foresight.functional.Estimate`, or a tensor for a plain number.
            level: Coverage of the interval that is kept.
        """
        keys = (key,) if isinstance(key, str) else tuple(key)
        if isinstance(value, Estimate):
            lower, upper = value.interval(level)
            fields = (value.value, lower, upper, value.num_samples)
            kind = value.kind
        else:
            fields = (value, value, value, torch.zeros_like(value))
            kind = "plain"
        dtype = torch.float32 if fields[0].device.type == "mps" else torch.float64  # MPS has no float64
        block = torch.stack([field.reshape(-1).to(dtype) for field in fields]).detach()
        if block.shape[1] != len(keys):
            raise ValueError(
                f"{', '.join(keys)}: got {block.shape[1]} value(s) for {len(keys)} key(s); expected one number a key: "
                "return a scalar, or a vector under a sequence of as many keys."
            )
        self._pending.append(_Pending(step, epoch, keys, block, kind))

    def flush(self) -> list[Row]:
        """Fetch all waiting values from the device in one transfer and return their rows; NaN values are dropped."""
        if not self._pending:
            return []
        pending, self._pending = self._pending, []
        by_device: dict[torch.device, list[Tensor]] = {}  # as a rule one
        for item in pending:
            by_device.setdefault(item.block.device, []).append(item.block.reshape(-1))
        fetched = {device: iter(torch.cat(blocks).tolist()) for device, blocks in by_device.items()}
        new: list[Row] = []
        for item in pending:
            width = len(item.keys)
            numbers = list(islice(fetched[item.block.device], 4 * width))
            for column, key in enumerate(item.keys):
                value, lower, upper, samples = numbers[column::width]
                row = _row(item.step, item.epoch, key, value, lower, upper, int(samples), item.kind)
                (self.dropped if math.isnan(value) else new).append(row)
        self._rows.extend(new)
        return new

    @property
    def rows(self) -> list[Row]:
        """All rows in the order in which they were measured."""
        self.flush()
        return self._rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, key: str) -> list[Row]:
        rows = [row for row in self.rows if row.key == key]
        if not rows:
            raise KeyError(f"no value under {key!r}; keys with values: {', '.join(self.keys()) or 'none yet'}")
        return rows

    def keys(self) -> list[str]:
        """Keys in the order of their first value."""
        return list(dict.fromkeys(row.key for row in self.rows))

    def last(self) -> dict[str, Row]:
        """Return the latest row of every key."""
        return {row.key: row for row in self.rows}

    def to_dict(self) -> dict[str, dict[str, list[Any]]]:
        """Return ``{key: {"step": [...], "epoch": [...], "value": [...], "lower": [...], ...}}``."""
        table: dict[str, dict[str, list[Any]]] = {}
        for row in self.rows:
            columns = table.setdefault(row.key, {field: [] for field in Row._fields if field != "key"})
            for field, column in columns.items():
                column.append(getattr(row, field))
        return table

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write all rows to a CSV file with one line a value."""
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Row._fields)
            writer.writerows(self.rows)

    def state_dict(self) -> dict[str, list[Any]]:
        """Return the rows as columns of plain numbers and strings, fit for a checkpoint."""
        return {field: [getattr(row, field) for row in self.rows] for field in Row._fields}

    def load_state_dict(self, state: dict[str, list[Any]]) -> None:
        """Replace the rows by those of a checkpoint."""
        self._pending = []
        self._rows = [_row(*values) for values in zip(*(state[field] for field in Row._fields), strict=True)]


def _row(*values: Any) -> Row:
    """Make a row whose NaN are one object, by which rows compare equal."""
    return Row._make(math.nan if value != value else value for value in values)
