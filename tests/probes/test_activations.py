import pytest
import torch
from torch import nn

from lightning_foresight.probes.activations import REDUCTIONS, capture_activations


def test_rows_follow_the_samples_and_features_are_flattened():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8, 3))
    inputs = torch.randn(5, 1, 4, 4)
    captured = capture_activations({"conv": model[0], "head": model[3]}, [inputs[:3], inputs[3:]], model)
    conv = nn.functional.conv2d(inputs, model[0].weight, model[0].bias).flatten(1)
    # What the ReLU did in place does not reach the copy.
    torch.testing.assert_close(captured["conv"], conv)
    assert (captured["conv"] < 0).any()
    assert captured["head"].shape == (5, 3)
    assert not captured["head"].requires_grad


def test_a_module_called_twice_is_there_twice_in_order_of_execution():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.late, self.early = nn.Identity(), nn.Linear(2, 2)

        def forward(self, x):
            return self.late(self.early(self.early(x)))

    model = Twice()
    inputs = torch.randn(4, 2)
    captured = capture_activations({"late": model.late, "early": model.early}, [inputs], model)
    assert list(captured) == ["early", "early:2", "late"]
    torch.testing.assert_close(captured["early:2"], captured["late"])


def test_tuple_outputs_count_by_their_first_tensor_and_integers_become_floats():
    lstm = nn.LSTM(3, 4, batch_first=True)
    captured = capture_activations({"lstm": lstm}, [torch.randn(2, 5, 3)], lstm)
    assert captured["lstm"].shape == (2, 20)

    class Code(nn.Module):
        def forward(self, x):
            return x.long()

    code = Code()
    assert capture_activations({"code": code}, [torch.ones(2, 3)], code)["code"].is_floating_point()


def test_a_layer_that_is_never_called_is_named_and_hooks_are_removed():
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "idle": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match="capture_activations: idle never called in a forward pass"):
        capture_activations(dict(model.items()), [torch.ones(1, 2)], model["used"])
    assert not model["used"]._forward_hooks


def test_batches_of_different_lengths_are_refused_with_what_to_do():
    model = nn.Linear(2, 3)
    batches = [torch.zeros(4, 5, 2), torch.zeros(4, 6, 2)]
    with pytest.raises(ValueError, match=r"linear has 15 to 18 features, .*reduce='mean_tokens'"):
        capture_activations({"linear": model}, batches, model)
    assert capture_activations({"linear": model}, batches, model, REDUCTIONS["mean_tokens"])["linear"].shape == (8, 3)
