"""Recurrent layers as the map from input and state to the next state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_foresight.functional.effective_information.composites import LinearPart, gates


class RecurrentStep(nn.Module):
    """One step of a GRU or LSTM: from its input and previous state to the next hidden state.

    Args:
        owner: The module that holds the parameters.
        suffix: What follows ``weight_ih`` in their names.
    """

    def __init__(self, owner: nn.Module, suffix: str = "") -> None:
        super().__init__()
        self.owner: Any = owner
        self.suffix = suffix
        self.gates = gates(owner, suffix)

    @property
    def num_inputs(self) -> int:
        """How many numbers go in: input, hidden state, and the LSTM's cell state."""
        cell_state = int(self.owner.hidden_size) if self._is_lstm else 0
        return self.gates.weight.shape[1] + cell_state

    @property
    def _is_lstm(self) -> bool:
        return isinstance(self.owner, (nn.LSTM, nn.LSTMCell))

    def forward(self, source: Tensor) -> Tensor:
        """Return the next hidden state ``(batch, hidden)`` to inputs and states ``(batch, num_inputs)``."""
        hidden = int(self.owner.hidden_size)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        parameters: list[Any] = [getattr(self.owner, f"{name}{self.suffix}", None) for name in names]
        features = source.shape[1] - hidden * (2 if self._is_lstm else 1)
        given, *states = source.split([features, *[hidden] * (2 if self._is_lstm else 1)], 1)
        if self._is_lstm:
            return torch.lstm_cell(given, states, *parameters)[0]
        return torch.gru_cell(given, states[0], *parameters)


class StateMap(NamedTuple):
    """A recurrent layer's map to its next state.

    Attributes:
        name: Its name within the module, ``"l0_reverse"`` for instance; empty for a cell.
        module: The map; affine before its activation for a plain RNN.
        activation: What follows it.
        in_range: What its inputs and states are set to.
        num_inputs: How many numbers go in.
    """

    name: str
    module: LinearPart | RecurrentStep
    activation: nn.Module | None
    in_range: tuple[float, float]
    num_inputs: int


def state_maps(module: nn.Module) -> Iterator[StateMap]:
    """Yield the maps from input and state to the next state, one for each layer and direction of a recurrent module."""
    kind = module.mode if isinstance(module, nn.RNNBase) else type(module).__name__
    suffixes = [""]
    if isinstance(module, nn.RNNBase):
        directions = ("", "_reverse") if module.bidirectional else ("",)
        suffixes = [f"_l{layer}{direction}" for layer in range(module.num_layers) for direction in directions]
    for suffix in suffixes:
        name = suffix[1:]
        if kind in ("GRU", "LSTM", "GRUCell", "LSTMCell"):
            step = RecurrentStep(module, suffix)
            yield StateMap(name, step, None, (-1.0, 1.0), step.num_inputs)
        else:
            relu = kind == "RNN_RELU" or getattr(module, "nonlinearity", "tanh") == "relu"
            part = gates(module, suffix)
            activation, in_range = (nn.ReLU(), (0.0, 10.0)) if relu else (nn.Tanh(), (-1.0, 1.0))
            yield StateMap(name, part, activation, in_range, int(part.weight.shape[1]))
