import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lightning_foresight.functional import exact_noise_scale
from lightning_foresight.metrics import GradientNoiseScale
from lightning_foresight.probes.gradients import GradientNormProbe
from tests.reference.gradient_noise import discounted_means


def observations(count=30, groups=()):
    generator = np.random.default_rng(0)
    s, g = generator.gamma(4, size=(count, *groups)), generator.standard_normal((count, *groups)) + 1
    return s, g, g + s / 4, g + s / 16  # squared norms at batch sizes 4 and 16


@pytest.mark.parametrize("decay", [1.0, 0.95])
def test_means_agree_with_the_float64_twin(decay):
    s, g, small, big = observations()
    metric = GradientNoiseScale(decay=decay)
    for values in zip(small, big, strict=True):
        metric.update(*(torch.tensor(v, dtype=torch.float32) for v in values), 4, 16)
    expected = discounted_means(s, g, decay)
    result = metric.compute()
    # float32 norms are the only rounding.
    np.testing.assert_allclose(result.trace_sigma.value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(result.grad_sq_norm.value, expected[1], rtol=1e-5)
    np.testing.assert_allclose(result.trace_sigma.std_error, expected[2] ** 0.5, rtol=1e-5)
    np.testing.assert_allclose(result.b_simple.value, expected[0] / expected[1], rtol=1e-5)


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_many_observations_at_once_are_the_same_as_one_by_one(decay):
    _, _, small, big = observations()
    one_by_one, at_once = GradientNoiseScale(decay=decay), GradientNoiseScale(decay=decay)
    for values in zip(small, big, strict=True):
        one_by_one.update(*values, 4, 16)
    at_once.update(torch.from_numpy(small[:7]), torch.from_numpy(big[:7]), 4, 16)
    at_once.update(torch.from_numpy(small[7:]), torch.from_numpy(big[7:]), torch.full((23,), 4), torch.full((23,), 16))
    torch.testing.assert_close(at_once.sums, one_by_one.sums)


def test_the_variance_of_nearly_equal_observations_survives():
    metric = GradientNoiseScale()
    generator = torch.Generator().manual_seed(0)
    s = 1e4 + 1e-2 * torch.randn(100, generator=generator, dtype=torch.float64)
    metric.update(1 + s / 4, 1 + s / 16, 4, 16)
    torch.testing.assert_close(metric.compute().trace_sigma.std_error, (s.std() / 10).float(), rtol=1e-3, atol=0)


def test_groups_are_measured_side_by_side():
    _, _, small, big = observations(groups=(3,))
    grouped = GradientNoiseScale(num_groups=3, decay=0.9)
    for row in zip(small, big, strict=True):
        grouped.update(*(torch.from_numpy(r) for r in row), 4, 16)
    for group in range(3):
        single = GradientNoiseScale(decay=0.9)
        single.update(torch.from_numpy(small[:, group]), torch.from_numpy(big[:, group]), 4, 16)
        torch.testing.assert_close(grouped.compute().b_simple.value[group], single.compute().b_simple.value)
        torch.testing.assert_close(grouped.compute().b_simple.upper[group], single.compute().b_simple.upper)


def test_states_of_two_ranks_add_up():
    _, _, small, big = observations()
    whole, first, second = (GradientNoiseScale() for _ in range(3))
    whole.update(torch.from_numpy(small), torch.from_numpy(big), 4, 16)
    first.update(torch.from_numpy(small[:10]), torch.from_numpy(big[:10]), 4, 16)
    second.update(torch.from_numpy(small[10:]), torch.from_numpy(big[10:]), 4, 16)
    first.sums = first._reductions["sums"](torch.stack([first.sums, second.sums]))
    torch.testing.assert_close(first.compute().b_simple.lower, whole.compute().b_simple.lower)


def test_an_overflowed_step_is_left_out():
    metric = GradientNoiseScale()
    metric.update(3.0, 1.5, 8, 32)
    metric.update(float("inf"), float("nan"), 8, 32)
    result = metric.compute()
    assert result.b_simple.value == 16
    assert result.b_simple.num_samples == 1


def test_nothing_measured_is_nan_and_not_an_error():
    result = GradientNoiseScale().compute()
    assert result.b_simple.value.isnan()
    assert result.b_simple.num_samples == 0


def test_reset_pickle_and_clone_keep_or_clear_the_state():
    metric = GradientNoiseScale(decay=0.9)
    metric.update(3.0, 1.5, 8, 32)
    for twin in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric), metric.clone()):
        assert twin.compute().b_simple.value == 16
    metric.reset()
    assert metric.compute().b_simple.value.isnan()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"decay": 0}, r"GradientNoiseScale\(decay=0\): expected a factor in \(0, 1\]"),
        ({"decay": "0.9"}, r"GradientNoiseScale\(decay='0.9'\): expected a factor in \(0, 1\]"),
        ({"level": 95}, r"GradientNoiseScale\(level=95\): expected a probability between 0 and 1"),
        ({"num_groups": 0}, r"GradientNoiseScale\(num_groups=0\): expected an integer of at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        GradientNoiseScale(**arguments)


def test_norms_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"update\(sq_norm_small\): got shape \(2,\); expected shape \(3,\) or"):
        GradientNoiseScale(num_groups=3).update(torch.ones(2), torch.ones(2), 4, 16)


def test_a_batch_of_no_examples_is_refused():
    with pytest.raises(ValueError, match=r"update\(batch_small=0\): expected a positive number of examples"):
        GradientNoiseScale().update(1.0, 1.0, 0, 16)


@pytest.mark.parametrize("sizes", [(8, 8), (32, 8)])
def test_a_big_batch_that_is_not_bigger_is_refused(sizes):
    metric = GradientNoiseScale()
    text = r"update\(batch_small={}, batch_big={}\): expected batch_big to be larger than batch_small".format(*sizes)
    with pytest.raises(ValueError, match=text):
        metric.update(3.0, 1.5, *sizes)
    assert metric.compute().b_simple.num_samples == 0


@pytest.mark.parametrize("size", [float("nan"), float("inf"), "8", [8, 8], True, np.bool_(True), 8 + 0j])
def test_batch_sizes_that_are_no_numbers_are_refused(size):
    with pytest.raises(ValueError, match=r"update\(batch_big=.*\): expected a positive number of examples"):
        GradientNoiseScale().update(3.0, 1.5, 8, size)


@pytest.mark.parametrize("norm", [[3.0], "3", None, True])
def test_norms_that_are_no_numbers_are_refused(norm):
    with pytest.raises(TypeError, match=r"update\(sq_norm_small=.*\): expected a tensor or a number"):
        GradientNoiseScale().update(norm, 1.5, 8, 32)


def test_numbers_of_numpy_count_as_numbers():
    plain, numpy = GradientNoiseScale(), GradientNoiseScale()
    plain.update(3.0, 1.5, 8, 32)
    numpy.update(np.float32(3), np.float64(1.5), np.int64(8), np.int32(32))
    assert numpy.sums.equal(plain.sums)


@pytest.mark.parametrize(
    ("values", "lengths"),
    [
        ((torch.ones(3), torch.ones(3), torch.tensor([8, 8]), 32), "3, 3, 2, 1"),
        ((torch.ones(3), torch.ones(3), 8, torch.tensor([32, 32])), "3, 3, 1, 2"),
        ((torch.ones(3), torch.ones(2), 8, 32), "3, 2, 1, 1"),
        ((3.0, 1.5, torch.tensor([8, 8, 8]), torch.tensor([32, 32])), "1, 1, 3, 2"),
    ],
)
def test_tensors_of_different_lengths_are_refused(values, lengths):
    metric = GradientNoiseScale()
    with pytest.raises(ValueError, match=rf"batch_big\): got {lengths} values; expected one of each for every obs"):
        metric.update(*values)
    assert metric.compute().b_simple.num_samples == 0


def test_a_plain_loop_measures_what_per_example_gradients_say():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1024, 4, generator=generator)
    targets = (inputs[:, 0] > 0).long()
    network = torch.nn.Linear(4, 2)
    metric, probe = GradientNoiseScale(), GradientNormProbe(network.parameters())
    probe.attach()
    probe.listening = True
    for step in torch.randperm(1024, generator=generator).view(32, 4, 8):  # 32 steps of 4 micro-batches of 8
        squares = []
        for rows in step:
            F.cross_entropy(network(inputs[rows]), targets[rows]).backward()
            squares.append(probe.collect().norms.square().sum())
        big = sum(p.grad.square().sum() for p in network.parameters()) / 4**2
        metric.update(sum(squares) / 4, big, batch_small=8, batch_big=32)
        network.zero_grad()
    exact = exact_noise_scale(network, F.cross_entropy, inputs, targets)
    for part, truth in zip(metric.compute()[1:], exact[1:], strict=True):
        assert abs(part.value - truth.value) < 3 * part.std_error
        assert part.std_error < 0.2 * truth.value
