from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lightning_foresight.functional import label_information, mutual_information
from lightning_foresight.functional.mutual_information.sliced import _slicing_error
from tests.functional.mutual_information.tasks import gaussian, gaussian_information


def labelled(n: int = 600, noise: float = 0.5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (n,), generator=generator)
    rows = torch.randn(n, 4, generator=generator) * noise
    rows[:, 1] += 2.0 * labels - 1
    return rows, labels, labels[torch.randperm(n, generator=generator)]


@pytest.mark.parametrize(("estimator", "options"), [("probe", {"max_steps": 100}), ("sliced", {"num_slices": 8})])
def test_shuffled_labels_give_nothing(estimator: str, options: dict) -> None:
    rows, labels, shuffled = labelled()
    real = label_information(rows, labels, estimator=estimator, **options)
    null = label_information(rows, shuffled, estimator=estimator, **options)
    assert real.value.item() > 0.15
    assert abs(null.value.item()) < max(0.03, 3 * null.std_error.item())


def test_probe_reads_what_a_linear_gaussian_label_offers() -> None:
    # Classes at +-1 with noise of standard deviation 1/2: information by numerical integration.
    z = torch.linspace(-6, 6, 6001, dtype=torch.float64)
    likelihood = torch.exp(-0.5 * ((z - 1) / 0.5) ** 2), torch.exp(-0.5 * ((z + 1) / 0.5) ** 2)
    posterior = likelihood[0] / (likelihood[0] + likelihood[1])
    truth = 1 - float((likelihood[0] * -posterior.log2()).sum() / likelihood[0].sum())
    rows, labels, _ = labelled(2000)
    for hidden in (0, 32):
        estimate = label_information(rows, labels, estimator="probe", hidden=hidden, max_steps=150)
        assert truth - 0.08 < estimate.value.item() < truth + 3 * estimate.std_error.item()
        assert estimate.kind == "lower_bound"


def test_hidden_probe_reads_what_a_linear_one_cannot() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(800, 2, generator=generator)
    labels = (rows[:, 0] * rows[:, 1] > 0).long()
    assert label_information(rows, labels, estimator="probe", hidden=0).value.item() < 0.05
    assert label_information(rows, labels, estimator="probe", hidden=64).value.item() > 0.6


def test_probe_works_inside_no_grad_and_inference_mode_and_leaves_the_global_generator_alone() -> None:
    rows, labels, _ = labelled(100)
    plain = label_information(rows, labels, estimator="probe", max_steps=20).value
    state = torch.get_rng_state()
    with torch.inference_mode():
        assert label_information(rows, labels, estimator="probe", max_steps=20).value == plain
    assert torch.equal(torch.get_rng_state(), state)


def test_renyi_is_the_entropy_of_eigenvalues() -> None:
    x, y = gaussian([0.8], 2)(60, torch.Generator().manual_seed(0))

    def kernel(rows: np.ndarray, sigma: float) -> np.ndarray:
        sq = ((rows[:, None] - rows[None]) ** 2).sum(-1)
        return np.exp(-sq / (2 * sigma**2))

    def entropy(k: np.ndarray, alpha: float) -> float:
        values = np.linalg.eigvalsh(k / np.trace(k)).clip(0)
        return float(np.log2((values**alpha).sum()) / (1 - alpha))

    k, l = kernel(x.numpy(), 0.7), kernel(y.numpy(), 0.7)  # noqa: E741
    for alpha in (1.01, 2.0):
        expected = entropy(k, alpha) + entropy(l, alpha) - entropy(k * l, alpha)
        value = mutual_information(x, y, estimator="renyi", alpha=alpha, bandwidth=0.7).value.item()
        assert value == pytest.approx(expected, abs=1e-9)


def test_renyi_of_labels_is_at_most_their_entropy_and_larger_than_for_shuffled_ones() -> None:
    rows, labels, shuffled = labelled(300, noise=0.1)
    real = label_information(rows, labels, estimator="renyi").value.item()
    null = label_information(rows, shuffled, estimator="renyi").value.item()
    assert null + 0.3 < real <= 1.0 + 1e-6


def test_sliced_value_of_a_gaussian_pair_is_its_mean_over_directions() -> None:
    # For correlation 0.9 between equal columns in 2 dimensions a slice has correlation 0.9 theta.phi.
    angles = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 2 * math.pi
    truth = float((-0.5 * torch.log1p(-((0.9 * angles.cos()) ** 2))).mean())
    x, y = gaussian([0.9, 0.9], 2)(800, torch.Generator().manual_seed(1))
    estimate = mutual_information(x, y, estimator="sliced", base=math.e, num_slices=40)
    assert estimate.value.item() == pytest.approx(truth, abs=3 * estimate.std_error.item())
    assert estimate.value.item() < gaussian_information([0.9, 0.9])


def test_interval_of_slices_holds_their_mean_over_all_directions_and_is_no_wider_than_they_spread() -> None:
    # Independent errors of the slices average out: their own spread stood for that of the mean, four times too wide.
    inside, values, errors = 0, [], []
    cosines = torch.nn.functional.normalize(torch.randn(100_000, 3, generator=torch.Generator().manual_seed(0)))[:, 0]
    truth = float((-0.5 * torch.log1p(-((0.8 * cosines) ** 2))).mean())
    for seed in range(40):
        x, y = gaussian([0.8] * 3, 3)(200, torch.Generator().manual_seed(seed))
        estimate = mutual_information(x, y, estimator="sliced", base=math.e, num_slices=10, seed=seed)
        low, high = estimate.interval()
        inside += int(low <= truth <= high)
        values.append(estimate.value.item())
        errors.append(estimate.std_error.item())
    assert inside >= 34  # 95% of 40 is 38; three standard deviations below
    assert 0.7 < np.mean(errors) / np.std(values) < 1.4


def test_slices_that_differ_by_the_error_of_their_samples_only_add_none_for_directions() -> None:
    # Means of 300 terms that spread twice as much as those of independent ones: every slice has the same truth.
    def share_without_error(factor: float) -> float:
        found = []
        for seed in range(100):
            generator = torch.Generator().manual_seed(seed)
            terms = torch.randn(20, 300, generator=generator, dtype=torch.float64)
            shifts = torch.randn(20, 1, generator=generator, dtype=torch.float64) * math.sqrt(3 / 300)
            found.append(_slicing_error(terms + shifts, factor).std_error == 0)
        return torch.stack(found).double().mean().item()

    assert 0.4 < share_without_error(2.0) < 0.8  # the variance of 20 values is below its mean in 55%
    assert share_without_error(1.0) < 0.05


def test_interval_of_slices_holds_no_information_about_labels() -> None:
    rows, _, shuffled = labelled()
    low, high = label_information(rows, shuffled, estimator="sliced", num_slices=5).interval()
    assert low.item() == 0.0 < high.item() < 0.05


@pytest.mark.parametrize(
    ("estimator", "options", "message"),
    [
        ("renyi", {"alpha": 1}, r"renyi\(alpha=1\): expected a positive number other than 1"),
        ("renyi", {"bandwidth": -1}, r"renyi\(bandwidth=-1\): expected a positive number or 'median'"),
        ("sliced", {"num_slices": 1}, r"sliced\(num_slices=1\): expected an integer of at least 2"),
        ("probe", {"num_folds": 1}, r"probe\(num_folds=1\): expected an integer of at least 2"),
        ("probe", {"num_folds": 200}, r"probe\(num_folds=200\): expected at least 4 samples in each fold, got 100"),
    ],
)
def test_bad_options_are_named_with_what_would_do(estimator: str, options: dict, message: str) -> None:
    rows, labels, _ = labelled(100)
    with pytest.raises(ValueError, match=message):
        label_information(rows, labels, estimator=estimator, **options)
