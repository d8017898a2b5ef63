"""
Effective information of recurrent networks: how long does a state last?
========================================================================

**Asked** in deep-ei's README, and left open: can EI be measured in recurrent networks, and how would this work?

**Seen**: yes, as the EI of the map from state to state. Set the state to uniform noise, let the network run for some
steps under random inputs, and ask what its state still says about the one it was set to. That is a measure of memory,
made without the task's data:

- RNNs and GRUs that learned to recall the *first* of ten inputs keep 0.4 to 1.4 bits over 16 steps. Less than
  the one bit of the task is no contradiction: states at random need not fall into its two memories equally often.
- The RNN that failed (accuracy 0.58) keeps nothing; so do untrained networks, and those that recall the *last* input.
- After a single step untrained networks keep as much as the others, or more. One step of EI does not tell what lasts.
- Networks that recall the last input take 1.6 to 2.5 bits from it into the next state; the others take 0.15 to 1.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lightning_foresight.functional import effective_information, ei_between_groups

# %%
# Two tasks
# ---------
# Ten random inputs of -1 or 1. One network has to say what the first was, another what the last was.

UNITS = 3


def train(cell: type[nn.RNNBase], recall: str, seed: int) -> tuple[nn.RNNBase, float]:
    torch.manual_seed(seed)
    rnn, readout = cell(1, UNITS, batch_first=True), nn.Linear(UNITS, 1)
    optimizer = torch.optim.Adam([*rnn.parameters(), *readout.parameters()], lr=0.02)
    accuracy = 0.5
    for _ in range({"untrained": 0, "first": 300, "last": 300}[recall]):
        inputs = torch.randint(2, (128, 10, 1)) * 2.0 - 1
        asked = inputs[:, 0 if recall == "first" else -1] > 0
        logits = readout(rnn(inputs)[0][:, -1])
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(logits, asked.float()).backward()
        optimizer.step()
        accuracy = float(((logits > 0) == asked).float().mean())
    return rnn, accuracy


# %%
# The map from state to state
# ---------------------------
# Anything that turns one tensor into another can be measured. Here it takes a state through so many steps under random
# inputs; what the new state says about the old one is its vector EI, with 3 units in 8 bins at most 9 bits. The random
# numbers drawn inside follow the measure's own generator.

QUESTION = {"in_range": (-1, 1), "out_range": (-1, 1), "in_bins": 8, "out_bins": 8, "num_samples": 2**14}


def later(rnn: nn.RNNBase, steps: int) -> Callable[[Tensor], Tensor]:
    return lambda state: rnn(torch.randint(2, (len(state), steps, 1)) * 2.0 - 1, state[None])[1][0]


# %%
# One step, input and state apart: the input becomes one more variable and a group of its own.


def one_step(rnn: nn.RNNBase) -> Callable[[Tensor], Tensor]:
    return lambda both: rnn(both[:, None, :1], both[None, :, 1:].contiguous())[1][0]


# %%
# How long a state lasts
# ----------------------
# A line for each seed, with two standard errors, mostly smaller than the dots. None of the estimates is saturated:
# otherwise their ``kind`` would be ``"lower_bound"``.

GROUPS = [([0], range(UNITS)), (range(1, UNITS + 1), range(UNITS))]
STEPS = (1, 2, 4, 8, 16)
kinds = set()
lasting = Figure(figsize=(9.6, 3.9), layout="constrained", dpi=140)
print("bits of the state after 1, 2, 4, 8, 16 steps; of input and state to the next state")
for axes, (cell, seeds) in zip(lasting.subplots(1, 2, sharey=True), ((nn.RNN, 3), (nn.GRU, 3)), strict=True):
    for color, recall in zip(("#777777", "#0072B2", "#D55E00"), ("untrained", "first", "last"), strict=True):
        for seed in range(seeds):
            rnn, accuracy = train(cell, recall, seed)
            kept = [effective_information(later(rnn, steps), in_shape=(UNITS,), **QUESTION) for steps in STEPS]
            sources = ei_between_groups(one_step(rnn), GROUPS, in_shape=(UNITS + 1,), **QUESTION)
            kinds |= {estimate.kind for estimate in (*kept, *sources)}
            bits = [float(estimate.value) for estimate in kept]
            errors = [2 * float(estimate.std_error) for estimate in kept]
            label = {"untrained": "untrained", "first": "recalls the first input", "last": "recalls the last input"}
            axes.errorbar(
                STEPS,
                bits,
                errors,
                color=color,
                marker={"untrained": "s", "first": "o", "last": "^"}[recall],
                markersize=5,
                label=None if seed else label[recall],
            )
            print(
                f"{cell.__name__} {recall:<10} seed {seed} accuracy {accuracy:.2f}  "
                + "  ".join(f"{value:5.2f}" for value in bits)
                + f"   input {sources[0].value:.2f}  state {sources[1].value:.2f}"
            )
    axes.axhline(1, color="black", linestyle=":", linewidth=1, label="the bit of the task")
    axes.set(title=cell.__name__, xlabel="steps later", xscale="log", xticks=STEPS, xticklabels=STEPS)
    axes.minorticks_off()
    axes.set(ylabel="EI from state to state in bits")
    axes.legend(fontsize="small")
print("kinds of all estimates:", kinds)
