import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_foresight.functional import lin_norm, sig_norm, soft_norm
from tests.reference.dense_connectivity import normalise_row

NORMS = {"lin": lin_norm, "soft": soft_norm, "sig": sig_norm}


@pytest.mark.parametrize("norm", NORMS)
@given(
    rows=st.integers(1, 6), columns=st.integers(1, 6), scale=st.sampled_from([0.01, 1.0, 30.0]), seed=st.integers(0, 99)
)
def test_norms_agree_with_rows_normalised_one_at_a_time(norm, rows, columns, scale, seed):
    weights = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * scale
    expected = np.stack([normalise_row(row, norm) for row in weights.numpy()])
    np.testing.assert_allclose(NORMS[norm](weights).numpy(), expected, atol=1e-13)


def test_a_row_without_a_positive_weight_stays_empty_under_lin_norm():
    assert lin_norm(torch.tensor([[-1.0, 0.0], [-2.0, 4.0]])).tolist() == [[0.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("norm", ["soft", "sig"])
def test_rows_of_very_negative_or_large_weights_keep_a_sum_of_one(norm):
    weights = torch.tensor([[-500.0, -501.0], [500.0, 499.0], [0.0, -500.0]])
    torch.testing.assert_close(NORMS[norm](weights).sum(1), torch.ones(3))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("passed", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 2) * 1j])
def test_what_is_not_a_real_matrix_is_refused_with_its_shape_and_type(norm, passed):
    with pytest.raises(ValueError, match=rf"{norm}_norm\(W\): got a tensor of shape .* expected a real floating-point"):
        NORMS[norm](passed)
