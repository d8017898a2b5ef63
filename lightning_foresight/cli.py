"""The command ``foresight`` (extra ``cli``): measure saved checkpoints."""

from __future__ import annotations

import glob
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytorch_lightning as pl

from lightning_foresight.callbacks import ForesightCallback
from lightning_foresight.measure import measure_checkpoints

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _classes(name: str) -> tuple[type, ...]:
    """Return a class of both Lightning packages."""
    classes = [getattr(pl, name)]
    if find_spec("lightning") is not None:
        import lightning.pytorch

        classes.append(getattr(lightning.pytorch, name))
    return tuple(classes)


def _parser() -> ArgumentParser:
    from jsonargparse import ArgumentParser

    measure = ArgumentParser(description="Measure saved checkpoints and append the values to a CSV file.")
    measure.add_argument("--config", action="config", help="A YAML file with these arguments.")
    measure.add_subclass_arguments(_classes("LightningModule"), "model", required=True)
    measure.add_subclass_arguments(_classes("LightningDataModule"), "data", required=True)
    measure.add_argument("--callbacks", type=list[ForesightCallback], required=True, help="What to measure.")
    measure.add_argument("--checkpoints", type=list[str], required=True, help="Files or globs, quoted.")
    measure.add_argument("--output", type=str, required=True, help="The CSV file to append to.")
    measure.add_argument("--device", type=str, default="cpu", help="Where to measure.")
    measure.add_argument("--precision", type=str | None, default=None, help="That of the run, as 'bf16-mixed'.")

    parser = ArgumentParser(prog="foresight", description="Information about networks, from their checkpoints.")
    parser.add_subcommands().add_subcommand("measure", measure)
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: Arguments instead of those of the process.

    Returns:
        The exit status: 1 if no checkpoint matches.
    """
    if find_spec("jsonargparse") is None:
        print("foresight needs jsonargparse: pip install 'lightning-foresight[cli]'", file=sys.stderr)
        return 1
    parser = _parser()
    chosen = parser.instantiate_classes(parser.parse_args(args)).measure
    paths = [path for pattern in chosen.checkpoints for path in sorted(glob.glob(pattern, recursive=True))]
    if not paths:
        print(f"foresight measure: no file matches {', '.join(chosen.checkpoints)}", file=sys.stderr)
        return 1
    measured = measure_checkpoints(
        chosen.model,
        paths,
        chosen.callbacks,
        datamodule=chosen.data,
        output=chosen.output,
        device=chosen.device,
        precision=chosen.precision,
    )
    print(f"{chosen.output}: {len(measured)} of {len(paths)} checkpoints measured, the others were there already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
