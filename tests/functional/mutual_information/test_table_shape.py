from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lightning_foresight.functional import label_information
from lightning_foresight.functional.mutual_information import _plug_in
from lightning_foresight.functional.mutual_information._table_shape import Tables, of_layers, shapes_of

TABLES = {
    "spread out": [[40, 20, 3], [11, 60, 5], [9, 30, 22]],
    "gap": [[90, 2], [80, 0], [70, 58]],
    "decides": [[30, 0, 0], [0, 50, 0], [0, 0, 120], [0, 0, 100]],
    "one cell": [[150, 150]],
    "rare cell": [[12, 8], [141, 139]],
    "sparse": [[0, 9, 1, 0, 30], [0, 0, 0, 2, 0], [12, 0, 40, 0, 60], [0, 0, 25, 0, 1], [3, 0, 0, 0, 117]],
}


def _information(p: np.ndarray) -> float:
    expected = p.sum(1, keepdims=True) * p.sum(0)
    return float((p[p > 0] * np.log(p[p > 0] / expected[p > 0])).sum())


def _slow(counts: np.ndarray) -> tuple[float, float, float, float, int, bool]:
    """The shape of a table from dense probabilities; its curvature from differences."""
    n = counts.sum()
    p, in_cells = counts / n, counts.sum(1)
    of_t = -np.log(in_cells / n)
    h_t = in_cells / n @ of_t
    terms = np.log(p, where=p > 0, out=np.zeros_like(p)) + of_t[:, None] - np.log(p.sum(0))
    terms -= (p * terms).sum()
    step = 1e-4
    ahead, here, behind = (_information(p * (1 + sign * step * terms)) for sign in (1, 0, -1))
    gaps = sum(
        counts[i, j] == 0 and in_cells[i] * counts[:, j].sum() < 3 * n
        for i in range(counts.shape[0])
        for j in range(counts.shape[1])
    )
    rare = in_cells < 30
    rare_cells = in_cells[rare].sum() < 30 and (in_cells / n * of_t)[rare].sum() > h_t / 2
    curvature = (ahead - 2 * here + behind) / step**2
    expected = in_cells[:, None] * counts.sum(0) / n
    lost = np.log(expected.clip(1) / counts.clip(1)).max()
    return in_cells / n @ (of_t - h_t) ** 3, (p * terms**3).sum(), curvature, lost, int(gaps), bool(rare_cells)


def _as_tables(tables: list[np.ndarray]) -> Tables:
    label_counts = tables[0].sum(0)
    cells, labels = zip(*(np.nonzero(table) for table in tables), strict=True)
    starts = np.cumsum([0] + [len(table) for table in tables])
    return Tables(
        np.concatenate([table.sum(1) for table in tables]),
        np.array([len(table) for table in tables]),
        np.concatenate([table[table > 0] for table in tables]),
        np.array([len(each) for each in cells]),
        np.concatenate([each + start for each, start in zip(cells, starts, strict=False)]),
        np.concatenate(labels),
        label_counts,
    )


@pytest.mark.parametrize("name", TABLES)
def test_shape_is_that_of_dense_probabilities(name: str) -> None:
    table = np.array(TABLES[name])
    (found,) = shapes_of(_as_tables([table]), _plug_in._surprisals(int(table.sum())))
    expected = _slow(table)
    assert found[:2] == pytest.approx(expected[:2], abs=1e-12)
    # Second differences of rounded numbers: 1e-16 over a step of 1e-4, squared.
    assert found.i_ty_curvature == pytest.approx(expected[2], abs=1e-6)
    assert found.largest_loss == pytest.approx(max(0.0, expected[3]), abs=1e-12)
    assert found[4:] == expected[4:]


def test_curvature_is_the_variance_near_independence_and_its_negative_where_the_layer_decides() -> None:
    for table, sign in ([[260, 240], [240, 260]], 1), ([[300, 0], [0, 700]], -1):
        counts = np.array(table)
        tables = _as_tables([counts])
        (found,) = shapes_of(tables, _plug_in._surprisals(1000))
        p = counts[counts > 0] / 1000
        terms = np.log(p / (counts.sum(1, keepdims=True) * counts.sum(0) / 1e6)[counts > 0])
        variance = p @ terms**2 - (p @ terms) ** 2
        assert found.i_ty_curvature == pytest.approx(sign * variance, rel=2e-3)


def test_layers_do_not_mix() -> None:
    tables = [np.array([[40, 20], [10, 30]]), np.array([[20, 15], [25, 25], [5, 10]]), np.array([[50, 50]])]
    surprisals = _plug_in._surprisals(100)
    together = shapes_of(_as_tables(tables), surprisals)
    for found, table in zip(together, tables, strict=True):
        assert found == pytest.approx(shapes_of(_as_tables([table]), surprisals)[0], abs=1e-12)
    chosen = shapes_of(of_layers(_as_tables(tables), np.array([True, False, True])), surprisals)
    for found, expected in zip(chosen, (together[0], together[2]), strict=True):
        assert found == pytest.approx(expected, abs=1e-12)


def _kind(table: list[list[int]]) -> str:
    cells = torch.tensor(table)
    numbers = torch.arange(cells.numel()).repeat_interleave(cells.flatten())
    layer, labels = numbers // cells.shape[1], numbers % cells.shape[1]
    return label_information(layer.unsqueeze(1), labels, estimator="binned").kind


def test_few_samples_of_all_but_one_cell_allow_no_interval() -> None:
    assert _kind([[480, 495], [15, 10]]) == "not_valid"
    assert _kind([[470, 480], [30, 20]]) == "estimate"
    # Of three cells the other two are known well.
    assert _kind([[280, 295], [200, 200], [15, 10]]) == "estimate"


def test_cells_that_chance_left_empty_count_as_if_they_were_not() -> None:
    # 31 samples of the rarer label in 12 cells: two to three in each.
    row = [269 // 12] * 12
    full, gaps = [3, 3, 2, 3, 2, 3, 2, 3, 2, 3, 3, 2], [3, 4, 0, 5, 0, 4, 2, 3, 0, 4, 4, 2]
    assert _kind([list(each) for each in zip(row, full, strict=True)]) == "upper_bound"
    assert _kind([list(each) for each in zip(row, gaps, strict=True)]) == "upper_bound"


def test_a_cell_that_few_of_a_label_saw_widens_the_interval_downwards() -> None:
    """Two cells, and a rare label of which 2% lies in one of them: without an allowance for it 6 to 7% lie below."""
    generator = np.random.default_rng(0)
    table, sets = np.array([[0.48, 0.00072], [0.48, 0.03928]]), 400
    truth, above, claims = _information(table) / math.log(2), 0, 0
    for counts in generator.multinomial(1000, table.ravel(), sets):
        numbers = torch.arange(4).repeat_interleave(torch.from_numpy(counts))
        estimate = label_information((numbers // 2).unsqueeze(1), numbers % 2, estimator="binned")
        if estimate.kind == "estimate":
            claims += 1
            above += int(estimate.interval()[0] > truth)
    assert claims > 0.9 * sets
    # Three standard deviations of 2.5% of 380 are 2.4%; without the allowance 7% of these do.
    assert above / claims < 0.049


def test_interval_of_a_rare_label_misses_on_both_sides_as_often() -> None:
    """Of the information of a layer that decides a label of 4%: below 4.5%, above 1.3% without the skewness."""
    generator = np.random.default_rng(0)
    truth, below, above, claims = -0.04 * math.log2(0.04) - 0.96 * math.log2(0.96), 0, 0, 0
    for rare in generator.binomial(5000, 0.04, 1500).tolist():
        labels = (torch.arange(5000) < rare).long()
        low, high = label_information(labels.unsqueeze(1), labels, estimator="binned").interval()
        claims += 1
        below += int(high < truth)
        above += int(low > truth)
    # Three standard deviations of 2.5% of 1,500 are 1.2%.
    assert 0.013 < below / claims < 0.037
    assert 0.013 < above / claims < 0.037
