"""
A neuron that is trained on its synergy finds XOR
=================================================

No labels, no task: one neuron with two binary inputs is told to know as much as possible *that neither input knows
alone*. Atoms of information are differentiable in the probabilities, so this is plain gradient ascent. With the
synergy of BROJA every run ends as XOR or its negation. With the synergy of shared exclusions runs end elsewhere: for
that measure XOR is no more synergistic than copying one input. What an atom is called does not say what it rewards.

Look at the curves (all runs near 1 bit on the left) and at what each run has become, printed below.
"""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from lightning_foresight.functional import JointRows, broja_pid, sx_pid

# %%
# The neuron fires with a probability that depends on its inputs and on their product, as a dendrite with a nonlinearity
# can compute it. Its four weights start at random. All four states of the inputs are equally likely, so the joint table
# of inputs and output has eight rows, whose weights carry the gradient.

STATES = torch.cartesian_prod(torch.arange(2), torch.arange(2))
ROWS = torch.cat([torch.cat([STATES, torch.full((4, 1), fires)], 1) for fires in (0, 1)])
SIGNS = 2.0 * STATES.double() - 1
FEATURES = torch.stack([torch.ones(4), SIGNS[:, 0], SIGNS[:, 1], SIGNS.prod(1)], 1).double()


def joint(weights: torch.Tensor) -> JointRows:
    fires = torch.sigmoid(FEATURES @ weights)
    return JointRows(ROWS, torch.cat([1 - fires, fires]) / 4)


def train(synergy, seed: int, steps: int = 40) -> tuple[list[float], torch.Tensor]:
    start = torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights = (0.5 * start).requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=0.4)
    curve = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = synergy(joint(weights))
        (-value).backward()
        optimizer.step()
        curve.append(value.item())
    return curve, torch.sigmoid(FEATURES @ weights).detach()


MEASURES = {
    "BROJA": lambda table: broja_pid(table).synergy,
    "shared exclusions": lambda table: sx_pid(table).atoms["{1,2}"],
}
NAMES = {
    (0, 1, 1, 0): "XOR",
    (1, 0, 0, 1): "XNOR",
    (0, 0, 1, 1): "first input",
    (1, 1, 0, 0): "not first",
    (0, 1, 0, 1): "second input",
    (1, 0, 1, 0): "not second",
}

# %%
# Four random starts with each measure.

figure = Figure(figsize=(9.6, 3.6), dpi=140, layout="constrained")
panels = figure.subplots(1, 2, sharey=True)
found = {}
for axes, (measure, synergy) in zip(panels, MEASURES.items(), strict=True):
    for seed in range(4):
        curve, fires = train(synergy, seed)
        truth_table = tuple(int(state > 0.5) for state in fires)
        found[measure, seed] = NAMES.get(truth_table, "one state apart (AND, OR, ...)")
        color, style = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")[seed], ("-", "--", "-.", ":")[seed]
        axes.plot(curve, color=color, linestyle=style, linewidth=1.6, label=f"run {seed}: {found[measure, seed]}")
        print(f"{measure:18} run {seed}: {curve[-1]:.3f} bits of synergy, {found[measure, seed]}")
    axes.set_title(f"Trained on the synergy of {measure}", fontsize="medium")
    axes.set_xlabel("step of gradient ascent")
    axes.legend(fontsize="small", loc="lower right" if measure == "BROJA" else "upper right")
panels[0].set_ylabel("synergy in bits")

# %%
# All runs on the synergy of BROJA have found XOR or its negation.

assert all(found["BROJA", seed] in ("XOR", "XNOR") for seed in range(4))
