"""The critics of a run: trained a little further at every measurement, since the network has moved only a little."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from lightning_foresight.functional._random import own_generator
from lightning_foresight.functional.mutual_information import Critic


class CriticStore:
    """One critic for each question asked of each layer.

    Args:
        hidden: Units of their hidden layers.
        seed: Seed of their first weights.
    """

    def __init__(self, hidden: int, seed: int) -> None:
        self.hidden = hidden
        self.seed = seed
        self._critics: dict[str, Critic] = {}
        self._saved: dict[str, dict[str, torch.Tensor]] = {}

    def source(self, question: str) -> Callable[[int, int, torch.device], Critic]:
        """Return what an estimator takes as ``critic=``."""
        return partial(self._critic, question)

    def _critic(self, question: str, x_width: int, y_width: int, device: torch.device) -> Critic:
        critic = self._critics.get(question)
        if critic is None or critic.widths != (x_width, y_width):  # another number of classes in the samples
            generator = own_generator(device, self.seed)
            critic = Critic(x_width, y_width, self.hidden, generator=generator, device=device)
            saved = self._saved.pop(question, None)
            if saved is not None and all(
                saved[name].shape == weight.shape for name, weight in critic.state_dict().items()
            ):
                critic.load_state_dict(saved)
            self._critics[question] = critic
        return critic

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of all critics."""
        return self._saved | {question: critic.state_dict() for question, critic in self._critics.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from these weights."""
        self._critics, self._saved = {}, dict(state)
