"""The network whose scores tell pairs that belong together from pairs that do not, and its training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Critic(nn.Module):
    """A separable critic: the score of a pair is the inner product of an embedding of each side, plus one of its own.

    Pass one to an estimator (``critic=``) to go on from its weights and find it trained further: measured again after a
    little more training of the network under study, it needs few steps.

    Args:
        x_width: Columns of x.
        y_width: Columns of y.
        hidden: Units of the hidden layer of each side.
        embedding: Length of the embeddings.
        generator: Source of the first weights, on the device of the critic.
        device: Where the weights live.

    Example:
        >>> import torch
        >>> from lightning_foresight.functional import mutual_information
        >>> from lightning_foresight.functional.mutual_information import Critic
        >>> critic = Critic(1, 1, generator=torch.Generator().manual_seed(0))
        >>> x = torch.randn(500, 1, generator=torch.Generator().manual_seed(1))
        >>> first = mutual_information(x, x.abs(), estimator="infonce", critic=critic, max_steps=20)
        >>> second = mutual_information(x, x.abs(), estimator="infonce", critic=critic, max_steps=20)
        >>> bool(second.value > first.value)
        True
    """

    def __init__(
        self,
        x_width: int,
        y_width: int,
        hidden: int = 128,
        embedding: int = 32,
        *,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()

        def linear(fan_in: int, fan_out: int) -> nn.Linear:
            # Weights are drawn from the given generator, never the global one.
            layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=torch.float32, device=device)
            nn.init.uniform_(layer.weight, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)
            nn.init.zeros_(layer.bias)
            return layer

        def side(width: int) -> nn.Sequential:
            return nn.Sequential(
                linear(width, hidden), nn.GELU(), linear(hidden, hidden), nn.GELU(), linear(hidden, embedding + 1)
            )

        self.x_side, self.y_side = side(x_width), side(y_width)
        self.widths = x_width, y_width

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores of all pairs, ``(len(x), len(y))``."""
        x, y = self.x_side(x), self.y_side(y)
        return x[:, 1:] @ y[:, 1:].T / math.sqrt(x.shape[1] - 1) + x[:, :1] + y[:, :1].T


def train_critic(
    critic: Critic,
    objective: Callable[[Tensor], Tensor],
    train: tuple[Tensor, Tensor],
    validate: tuple[Tensor, Tensor],
    *,
    max_steps: int,
    batch_size: int,
    learning_rate: float,
    patience: int,
    generator: torch.Generator,
) -> None:
    """Raise the objective of the critic's scores; leave it with the weights that were best on the validation pairs.

    Args:
        critic: Trained in place.
        objective: What to raise, of a square matrix of scores whose diagonal holds the true pairs.
        train: Rows of x and y.
        validate: Rows of x and y that decide about stopping.
        max_steps: Steps of Adam at most.
        batch_size: Rows in a step.
        learning_rate: Of Adam, falling to 0 over ``max_steps`` on a cosine.
        patience: Looks at the validation pairs without an improvement before stopping; one look every 25 steps.
        generator: Source of the batches.
    """
    optimizer = torch.optim.Adam(critic.parameters(), lr=learning_rate)
    best, best_state, waited = -math.inf, copy.deepcopy(critic.state_dict()), 0
    n = train[0].shape[0]
    for step in range(max_steps + 1):
        if step % 25 == 0 or step == max_steps:
            with torch.no_grad():
                value = float(objective(critic(*validate)))
            if value > best:
                best, best_state, waited = value, copy.deepcopy(critic.state_dict()), 0
            else:
                waited += 1
            if waited > patience:
                break
        optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / max_steps))
        rows = torch.randint(0, n, (min(batch_size, n),), generator=generator, device=train[0].device)
        optimizer.zero_grad()
        (-objective(critic(train[0][rows], train[1][rows]))).backward()
        nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
        optimizer.step()
    critic.load_state_dict(best_state)
