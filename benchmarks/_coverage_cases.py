"""The families of cases whose intervals are counted; each takes a few minutes at most."""

from __future__ import annotations

from benchmarks._coverage_columns import columns, large, slices
from benchmarks._coverage_labels import labels
from benchmarks._coverage_layers import layers
from benchmarks._coverage_tables import dependence, tables

FAMILIES = {
    f"coverage_{family.__name__}": family for family in (columns, labels, large, layers, slices, tables, dependence)
}
