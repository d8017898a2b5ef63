from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_foresight.data import checkerboard, parity, recursive_majority, spherical, tishby_labels
from lightning_foresight.functional import joint_table, reing, shannon_invariants


def test_parity_is_known_by_all_bits_together_alone() -> None:
    inputs, labels = parity(4).tensors
    differences = reing(joint_table((inputs > 0).long(), labels)).differences
    assert differences.tolist() == pytest.approx([0, 0, 0, 1], abs=1e-12)


def test_recursive_majority_is_what_a_recursion_says() -> None:
    def majority(bits: tuple[int, ...]) -> int:
        if len(bits) == 1:
            return bits[0]
        third = len(bits) // 3
        return int(sum(majority(bits[i * third : (i + 1) * third]) for i in range(3)) >= 2)

    inputs, labels = recursive_majority(depth=2).tensors
    expected = [majority(bits) for bits in itertools.product((0, 1), repeat=9)]
    assert labels.tolist() == expected
    assert inputs.unique().tolist() == [-1, 1]


def test_checkerboard_neighbours_differ_and_seeds_repeat() -> None:
    points, labels = checkerboard(500, squares=4, seed=3).tensors
    inner = points[:, 0] < 0.5
    fields = ((points + 1) * 2).floor()
    assert torch.equal(labels[inner], (fields.sum(1)[inner] % 2).long())
    assert torch.equal(points, checkerboard(500, squares=4, seed=3).tensors[0])
    assert not torch.equal(points, checkerboard(500, squares=4, seed=4).tensors[0])


def test_spherical_labels_do_not_change_under_the_symmetries_of_the_icosahedron() -> None:
    inputs, labels = spherical().tensors
    golden = (1 + 5**0.5) / 2
    corners = [(0.0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    vertices = torch.tensor([corner[k:] + corner[:k] for corner in corners for k in range(3)], dtype=torch.float64)
    by_input = {tuple(row): label for row, label in zip(inputs.tolist(), labels.tolist(), strict=True)}
    # Turning the axes into one another, and a reflection.
    for image in (vertices[:, [1, 2, 0]], vertices * torch.tensor([-1.0, 1.0, 1.0])):
        moved = torch.cdist(image, vertices).argmin(1)
        assert moved.sort().values.tolist() == list(range(12))
        assert all(by_input[tuple(row)] == label for row, label in zip(inputs[:, moved].tolist(), labels, strict=True))


def test_no_single_bit_of_the_spherical_task_knows_anything_of_its_label() -> None:
    inputs, labels = spherical().tensors
    # Flipping all bits changes no power.
    invariants = shannon_invariants(joint_table((inputs > 0).long(), labels))
    assert invariants.per_source.abs().max() < 1e-12
    assert invariants.mutual_information > 0.9


def test_published_labels_are_read_from_a_users_file(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    inputs = np.eye(4, 12)
    savemat(tmp_path / "var_u.mat", {"F": inputs, "y": np.array([[0, 1, 1, 0]])})
    read, labels = tishby_labels(tmp_path / "var_u.mat").tensors
    assert torch.equal(read, torch.from_numpy(inputs).float())
    assert labels.tolist() == [0, 1, 1, 0]
    savemat(tmp_path / "other.mat", {"x": inputs})
    with pytest.raises(ValueError, match=r"tishby_labels\(path=.*expected a .mat file with arrays F"):
        tishby_labels(tmp_path / "other.mat")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parity(21), r"parity\(num_bits=21\): expected at most 20 bits"),
        (lambda: recursive_majority(width=2), r"recursive_majority\(width=2\): expected an odd number"),
        (lambda: checkerboard(0), r"checkerboard\(num_samples=0\)"),
        (lambda: spherical(max_degree=1), r"spherical\(max_degree=1\): expected an integer of at least 2"),
    ],
)
def test_sizes_out_of_range_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
