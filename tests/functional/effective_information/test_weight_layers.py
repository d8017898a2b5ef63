import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from lightning_foresight.functional import (
    LayerCall,
    connectivity_matrix,
    trace_weight_layers,
    weight_effective_information,
    weight_ei,
)


def shapes(calls):
    return [(call.name, tuple(call.in_shape), tuple(call.out_shape)) for call in calls]


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(4, 4)

    def forward(self, x):
        return self.shared(self.shared(x))


class Spare(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.used(x)


def test_layers_come_in_order_of_execution_with_shapes_and_nested_names():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Linear(8, 3)))
    calls = trace_weight_layers(model, lambda: model(torch.zeros(5, 1, 4, 4)))
    assert shapes(calls) == [("0", (1, 4, 4), (2, 2, 2)), ("2.1", (8,), (3,))]


def test_a_layer_called_twice_is_measured_per_call():
    model = Twice()
    result = weight_effective_information(model, torch.zeros(1, 4))
    assert list(result.layers) == ["shared", "shared:2"]
    once = result.layers["shared"]
    assert torch.equal(once.ei, result.layers["shared:2"].ei)
    # Two copies of the same layer side by side: one more bit says in which of them one is.
    assert float(result.ei) == pytest.approx(float(once.ei) + 1, abs=1e-5)


@pytest.mark.parametrize("layers", [["2"], lambda name, module: name == "2"])
def test_layers_are_chosen_by_name_or_predicate(layers):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert list(weight_effective_information(model, torch.zeros(1, 4), layers=layers).layers) == ["2"]


def test_an_unknown_name_is_refused_with_the_names_that_work():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(ValueError, match=r"layers=\['fc9'\]\): no layer of the model .* can be measured: 0\."):
        trace_weight_layers(model, lambda: model(torch.zeros(1, 4)), ["fc9"])


def test_a_named_layer_without_weights_between_nodes_is_refused_by_kind():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(TypeError, match=r"layers=\['1'\]\): that layer is a ReLU, which has no weight connectivity"):
        trace_weight_layers(model, lambda: model(torch.zeros(1, 4)), ["1"])


def test_a_named_layer_that_is_never_reached_is_an_error():
    model = Spare()
    with pytest.raises(ValueError, match=r"does not reach spare; expected layers that it calls"):
        trace_weight_layers(model, lambda: model(torch.zeros(1, 4)), ["spare"])


def test_a_layer_that_is_never_reached_is_left_out_with_a_warning():
    model = Spare()
    with pytest.warns(UserWarning, match="leaves out layers that the forward pass does not reach: spare"):
        calls = trace_weight_layers(model, lambda: model(torch.zeros(1, 4)))
    assert [call.name for call in calls] == ["used"]


def test_a_model_without_a_measurable_layer_is_refused_with_the_kinds_that_are():
    model = nn.Sequential(nn.Flatten(), nn.ReLU())
    with pytest.raises(ValueError, match=r"model=Sequential\).*calls no layer .* at least one of Linear, Conv1d"):
        trace_weight_layers(model, lambda: model(torch.zeros(1, 4)))


def test_weight_matrices_without_a_rule_are_named_in_a_warning():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1, 4))
            self.first, self.norm, self.pair = nn.Linear(4, 4), nn.LayerNorm((1, 4)), nn.Bilinear(4, 4, 2)

        def forward(self, x):
            y = self.norm((self.first(x) + self.position)[:, None])[:, 0]
            return self.pair(y, y)

    model = Mixed()
    with pytest.warns(UserWarning, match=r"no rule says which nodes they connect: position, pair\.weight\."):
        trace_weight_layers(model, lambda: model(torch.zeros(1, 4)))


def test_quantised_layers_are_named_in_a_warning():
    class Packed(nn.Module):
        def weight(self):
            return torch.zeros(4, 4, dtype=torch.int8)

        def forward(self, x):
            return x

    model = nn.Sequential(nn.Linear(4, 4), Packed())
    with pytest.warns(UserWarning, match=r"no rule says which nodes they connect: 1\.weight\."):
        trace_weight_layers(model, lambda: model(torch.zeros(1, 4)))


def test_batch_norm_layer_norm_and_biases_are_passed_over_in_silence(recwarn):
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.PReLU(4))
    trace_weight_layers(model, lambda: model(torch.zeros(2, 4)))
    assert not recwarn.list


def test_self_attention_is_the_four_linear_maps_that_it_is_made_of():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    x = torch.zeros(1, 6, 4)
    calls = trace_weight_layers(attention, lambda: attention(x, x, x))
    assert shapes(calls) == [(name, (6, 4), (6, 4)) for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
    by_hand = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    for linear, weight in zip(by_hand, (*attention.in_proj_weight.chunk(3), attention.out_proj.weight), strict=True):
        linear.weight.data = weight.data
    torch.testing.assert_close(weight_ei(calls)[:4], weight_effective_information(by_hand, x)[:4])


def test_cross_attention_counts_the_positions_of_queries_and_keys_apart():
    attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
    query, key, value = torch.zeros(6, 1, 4), torch.zeros(9, 1, 3), torch.zeros(9, 1, 5)
    calls = trace_weight_layers(attention, lambda: attention(query, value=value, key=key))
    assert shapes(calls) == [
        ("q_proj", (6, 4), (6, 4)),
        ("k_proj", (9, 3), (9, 4)),
        ("v_proj", (9, 5), (9, 4)),
        ("out_proj", (6, 4), (6, 4)),
    ]


def test_attention_called_twice_keeps_the_positions_of_each_call():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            short = x[:, :2]
            return self.attention(x, x, x)[0][:, :2] + self.attention(short, short, short)[0]

    model = Shared()
    calls = trace_weight_layers(model, lambda: model(torch.zeros(1, 6, 4)))
    assert shapes(calls)[0] == ("attention.q_proj", (6, 4), (6, 4))
    assert shapes(calls)[4] == ("attention.q_proj:2", (2, 4), (2, 4))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (["self_attn.k_proj", "linear1"], ["self_attn.k_proj", "linear1"]),
        (["self_attn.out_proj"], ["self_attn.out_proj"]),
        (["self_attn", "self_attn.k_proj"], [f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")]),
    ],
    ids=str,
)
def test_parts_of_attention_are_chosen_by_name(layers, expected):
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    calls = trace_weight_layers(model, lambda: model(torch.zeros(1, 5, 8)), layers)
    assert [call.name for call in calls] == expected


def test_a_transformer_encoder_layer_is_measured_in_eval_mode_too():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    result = weight_effective_information(model, torch.zeros(1, 5, 8))
    parts = [f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj")]
    assert list(result.layers) == [*parts, "linear1", "linear2"]


def test_parts_of_a_model_that_is_one_recurrent_layer_are_chosen_by_name():
    rnn = nn.RNN(3, 4, num_layers=2, batch_first=True)
    calls = trace_weight_layers(rnn, lambda: rnn(torch.zeros(1, 7, 3)), ["l1"])
    assert [call.name for call in calls] == ["l1"]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_recurrent_layer_maps_input_and_previous_state_to_its_gates_at_every_step():
    lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2, batch_first=True)
    calls = trace_weight_layers(lstm, lambda: lstm(torch.zeros(1, 7, 3)))
    assert shapes(calls)[:2] == [("l0", (7, 5), (7, 16)), ("l0_proj", (7, 4), (7, 2))]
    assert [call.name for call in calls][2:] == [
        "l0_reverse",
        "l0_reverse_proj",
        *("l1", "l1_proj", "l1_reverse", "l1_reverse_proj"),
    ]
    matrix = connectivity_matrix(calls[0].module, (3 + 2,), (16,))
    assert torch.equal(matrix, torch.cat([lstm.weight_ih_l0, lstm.weight_hh_l0], 1).T)
    assert torch.isfinite(weight_ei(calls).ei)


def test_packed_sequences_count_the_steps_of_the_longest():
    rnn = nn.RNN(2, 3)
    packed = pack_sequence([torch.zeros(5, 2), torch.zeros(4, 2)])
    assert shapes(trace_weight_layers(rnn, lambda: rnn(packed))) == [("l0", (5, 5), (5, 3))]


def test_a_recurrent_cell_is_measured_per_step():
    class Unrolled(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(2, 3)

        def forward(self, x):
            return self.cell(x, self.cell(x))

    model = Unrolled()
    calls = trace_weight_layers(model, lambda: model(torch.zeros(1, 2)))
    assert shapes(calls) == [("cell", (1, 5), (1, 9)), ("cell:2", (1, 5), (1, 9))]


@pytest.mark.parametrize(("dtype", "name"), [(torch.complex64, "complex64"), (torch.int32, "int32")])
def test_weights_that_are_not_real_numbers_are_refused_by_type(dtype, name):
    layer = nn.Linear(2, 2)
    layer.weight = nn.Parameter(torch.zeros(2, 2).to(dtype), requires_grad=False)
    call = LayerCall("fc", layer, torch.Size([2]), torch.Size([2]))
    with pytest.raises(TypeError, match=rf"weight of layer 'fc' \(Linear\) is dtype {name}; expected real floating"):
        weight_ei([call])


def test_a_layer_without_a_rule_among_the_calls_is_refused():
    with pytest.raises(TypeError, match="layer 'act' is a ReLU; expected one of Linear"):
        weight_ei([LayerCall("act", nn.ReLU(), torch.Size([2]), torch.Size([2]))])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "max"}, r"weight_ei\(norm='max'\): expected one of 'lin', 'soft', 'sig'"),
        ({"base": 1}, r"weight_ei\(base=1\): expected a number above 1"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        weight_effective_information(nn.Linear(2, 2), torch.zeros(1, 2), **arguments)


def test_no_calls_at_all_are_refused():
    with pytest.raises(ValueError, match=r"weight_ei\(calls=\[\]\): expected at least one layer"):
        weight_ei([])


def test_weights_that_are_not_finite_are_refused_by_layer_or_give_nan_when_not_validated():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight.data[0, 0] = float("nan")
    calls = trace_weight_layers(model, lambda: model(torch.zeros(1, 3)))
    with pytest.raises(ValueError, match=r"weight of 1\): 1 of 9 entries are NaN or infinite"):
        weight_ei(calls)
    result = weight_ei(calls, validate=False)
    assert torch.isnan(result.ei)
    assert torch.isfinite(result.layers["0"].ei)


@pytest.mark.parametrize(
    ("layer", "example"), [(nn.Conv2d(1, 1, 2), torch.zeros(1, 4, 4)), (nn.Linear(3, 2), torch.zeros(3))]
)
def test_an_input_without_a_batch_axis_is_refused(layer, example):
    with pytest.raises(ValueError, match="Trace with a batch axis"):
        weight_effective_information(layer, example)


def test_an_example_without_a_tensor_is_refused():
    with pytest.raises(ValueError, match=r"example_input=\(\)\): expected a tensor, or a tuple"):
        weight_effective_information(nn.Linear(2, 2), ())
