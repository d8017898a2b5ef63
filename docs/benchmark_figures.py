"""Draws benchmarks/results/*.json, so that the pages show what was measured last."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURES = ROOT / "docs" / "_static" / "benchmarks"
OURS, PEER, THIRD, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def new_figure(columns: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9.2, height), layout="constrained", facecolor="white")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25, linewidth=0.6)
    return figure, list(axes)


def effective_information() -> Figure:
    """Error against time for one layer, and our time as layers grow."""
    found = read("effective_information")
    figure, (error, growth) = new_figure(2, 3.9)
    layer = found["compare"][-1]
    for name, label, color, marker in (
        ("deep_ei", "deep-ei", PEER, "s"),
        ("lightning_foresight", "ours, sampled", OURS, "o"),
    ):
        runs = [row[name] for row in layer["sampled"]]
        times, errors = [run["cpu_s"] for run in runs], [run["rms_error_bits"] for run in runs]
        error.plot(times, errors, color=color, marker=marker, label=f"{label}, 100 to 100,000 samples")
    exact = layer["exact"]
    converged = found.get("converged")
    if converged and converged["layer"] == layer["layer"]:
        run = converged["deep_ei"]
        off = abs(run["value"] - exact["value"])
        error.plot([run["cpu_s"]], [off], "D", color=PEER, markersize=8, label="deep-ei, until it converges")
    error.axvline(exact["cpu_s"], color=OURS, linestyle="--", label=f"ours, exact: {exact['cpu_s']:.2f} s")
    error.set(xscale="log", yscale="log", xlabel="CPU seconds", ylabel="error in bits")
    error.set_title(f"EI_parts of a {layer['layer']} sigmoid layer, {exact['value']:.1f} bits", fontsize="medium")

    rows = sorted(found["growth"], key=lambda row: row["pairs"])
    growth.plot([row["pairs"] for row in rows], [row["cpu_s"] for row in rows], "o-", color=OURS, label="ours, exact")
    for row in rows:
        growth.annotate(row["layer"], (row["pairs"], row["cpu_s"]), xytext=(7, -9), textcoords="offset points", size=8)
    growth.set(xscale="log", yscale="log", xlabel="pairs of an input and an output", ylabel="CPU seconds")
    growth.margins(x=0.18)
    growth.set_title("All pairs, exact, as the layer grows", fontsize="medium")
    return figure


def noise_scale_cost() -> Figure:
    """Time and memory of the squared norms of all per-example gradients."""
    peers = read("gradient_noise_scale")["peers"]["results"]
    figure, panels = new_figure(2, 3.2)
    networks = {"mlp_17k": "MLP, 17k", "transformer_2M": "transformer, 2.0M"}
    packages = {"ours": OURS, "backpack": PEER, "opacus": THIRD, "vmap": GREY}
    for axes, key, title in zip(panels, ("step", "peak_memory"), ("Time", "Peak memory"), strict=True):
        for index, (package, color) in enumerate(packages.items()):
            rows = [peers[f"{network}, {package}"] for network in networks]
            at = [place + 0.2 * (index - 1.5) for place in range(len(networks))]
            heights = [row.get(key, 0.0) for row in rows]
            bars = axes.bar(
                at, heights, 0.18, color=color, label=f"{package} (torch.func)" * (package == "vmap") or package
            )
            axes.bar_label(bars, [f"{row[key]:.1f}" if key in row else "fails" for row in rows], fontsize=8)
        axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set_xticks(range(len(networks)), list(networks.values()))
        axes.set_ylabel("multiple of a plain step")
        axes.set_title(f"{title} with all per-example norms", fontsize="medium")
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.1)
    return figure


def noise_scale_accuracy() -> Figure:
    """Estimates within and across steps over the exact value, in runs whose weights move."""
    runs = read("gradient_noise_scale")["moving_weights"]["results"]["runs"]
    figure, (axes,) = new_figure(1, 4.4)
    low, high = 0.3, 8.0
    for place, run in enumerate(runs.values()):
        ends = [(run[end] or math.inf) / run["truth"] for end in ("lower", "upper")]
        axes.plot([max(low, ends[0]), min(high, ends[1])], [place, place], color=OURS, alpha=0.5, linewidth=2)
        across = run["ratio_across_steps"]
        axes.plot([across if across > 0 else low * 1.05], [place], "x" if across > 0 else "<", color=PEER, markersize=7)
    axes.plot([run["ratio"] for run in runs.values()], range(len(runs)), "o", color=OURS, label="within steps, 95%")
    axes.plot([], [], "x", color=PEER, label="across steps")
    axes.plot([], [], "<", color=PEER, label="across steps, negative")
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(runs)), list(runs))
    axes.invert_yaxis()
    axes.set(xscale="log", xlim=(low, high), xlabel="estimate over exact noise scale")
    axes.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
    axes.minorticks_off()
    axes.set_title("B_simple while the weights move", fontsize="medium")
    return figure


def mutual_information() -> Figure:
    """Error of ours and of each peer on the tasks that the peer finished, and time against samples."""
    found = read("mutual_information")
    ours = {task["task"]: task for task in found["tasks"]["results"]["tasks"]}
    peers = found["peers"]["results"]
    figure, (error, time) = new_figure(2, 4.2)
    names = sorted(peers["summary"], key=lambda name: -peers["summary"][name]["tasks"])
    labels = []
    for place, name in enumerate(names):
        done = [task for task in peers["tasks"] if isinstance(task.get(name), list) and task["task"] in ours]
        for shift, color, values in (
            (-0.2, OURS, [ours[task["task"]]["auto"][0] - task["truth"] for task in done]),
            (0.2, PEER, [task[name][0] - task["truth"] for task in done]),
        ):
            error.barh(place + shift, statistics.fmean(map(abs, values)), 0.36, color=color)
        labels.append(f"{name}\n{len(done)} tasks")
    error.set_yticks(range(len(names)), labels, fontsize=8)
    error.invert_yaxis()
    error.set(xlabel="mean absolute error in nats")
    error.set_title("Ours (auto) and each peer, same tasks", fontsize="medium")
    error.barh([0], [0], color=OURS, label="ours, auto")
    error.barh([0], [0], color=PEER, label="the peer")
    error.grid(visible=False, axis="y")

    styles = {
        "lightning_foresight auto": ("ours, auto", OURS, "o"),
        "lightning_foresight ksg": ("ours, ksg", "#56B4E9", "^"),
        "lightning_foresight binned": ("ours, binned", THIRD, "v"),
        "infomeasure KSG": ("infomeasure KSG", PEER, "s"),
        "NPEET-like KSG": ("NPEET-like KSG", "#CC79A7", "D"),
    }
    columns = [1, 10, 100, 1000, 4096]
    for name, (label, color, marker) in styles.items():
        seconds = [(width, peers["cpu_seconds"][name].get(f"1000x{width}")) for width in columns]
        points = [(width, value) for width, value in seconds if isinstance(value, float)]
        time.plot(*zip(*points, strict=True), color=color, marker=marker, label=label)
    time.set(xscale="log", yscale="log", xlabel="columns of each side", ylabel="CPU seconds")
    time.set_title("1,000 samples, as they get wider", fontsize="medium")
    return figure


def weights() -> Figure:
    """Share of a step for the EI of all weights, and time of a convolution beside its dense matrix."""
    found = read("weight_effective_information")
    figure, (share, single) = new_figure(2, 3.4)
    step = found["resnet18_batch_128"]
    norms = [norm for norm in ("lin", "sig", "soft") if norm in step]
    bars = share.bar(norms, [step[norm]["percent_of_step"] for norm in norms], 0.5, color=OURS)
    share.bar_label(bars, [f"{step[norm]['median_ms']:.0f} ms" for norm in norms], fontsize=8)
    share.axhline(1, color="black", linewidth=0.8, linestyle=":")
    share.set(ylabel="% of a training step", xlabel="norm")
    share.set_title("ResNet-18, all weights, on every step", fontsize="medium")
    share.grid(visible=False, axis="x")
    share.margins(y=0.1)

    rows = found["single_layers_lin"]
    sizes = [row["dense_matrix_gb"] for row in rows]
    single.plot(sizes, [row["ours"]["median_ms"] for row in rows], "o-", color=OURS, label="ours")
    dense = [(row["dense_matrix_gb"], row["dense"]["median_ms"]) for row in rows if "dense" in row]
    single.plot(*zip(*dense, strict=True), "s-", color=PEER, label="with the dense matrix")
    single.set(xscale="log", yscale="log", xlabel="size of the dense matrix in GB", ylabel="ms")
    single.set_title("One convolution", fontsize="medium")
    return figure


FIGURES = (effective_information, weights, noise_scale_accuracy, noise_scale_cost, mutual_information)


def draw_all() -> None:
    """Write one picture a figure; the same results give the same bytes."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    with mpl.rc_context({"svg.hashsalt": "lightning_foresight", "font.size": 9.5}):
        for draw in FIGURES:
            figure = draw()
            for axes in figure.axes:
                for axis in (axes.xaxis, axes.yaxis):
                    if axis.get_scale() == "log" and not axis.get_major_formatter().__class__.__name__.startswith(
                        "Fixed"
                    ):
                        axis.set_major_formatter(plain)
                        axis.set_minor_formatter("")
                if axes.get_legend_handles_labels()[0]:
                    axes.legend(
                        loc="upper center",
                        bbox_to_anchor=(0.5, -0.17),
                        ncols=2 if len(figure.axes) > 1 else 3,
                        fontsize=8,
                        frameon=False,
                    )
            figure.savefig(PICTURES / f"{draw.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    draw_all()
