"""The command ``foresight`` (extra ``cli``): measure saved checkpoints."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Union

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
    model, data = (Union[_classes(name)] for name in ("LightningModule", "LightningDataModule"))  # noqa: UP007
    measure.add_argument("--model", type=model, required=True, help="The model, made as for the run.")
    measure.add_argument("--data", type=data, required=True, help="The data of the run.")
    what = "What to measure: any but GradientNoiseScaleCallback, which needs the gradients of a run."
    measure.add_argument("--callbacks", type=list[ForesightCallback], required=True, help=what)
    measure.add_argument("--checkpoints", type=list[str], required=True, help="Files or globs, quoted.")
    measure.add_argument("--output", type=str, required=True, help="The CSV file to append to.")
    measure.add_argument("--device", type=str, default="cpu", help="Where to measure.")
    measure.add_argument("--precision", type=str | None, default=None, help="That of the run, as 'bf16-mixed'.")

    parser = ArgumentParser(prog="foresight", description="Information about networks, from their checkpoints.")
    parser.add_subcommands().add_subcommand("measure", measure)
    return parser


def _is_told(error: Exception) -> bool:
    """Say whether the package has put an error in words, so that a traceback would add nothing."""
    owners, kinds = {"measure_checkpoints"}, [ForesightCallback]
    for kind in kinds:
        owners.add(kind.__name__)
        kinds += kind.__subclasses__()
    return str(error).startswith(tuple(f"{owner}{mark}" for owner in owners for mark in "(:"))


def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: Arguments instead of those of the process.

    Returns:
        The exit status: 1 if no checkpoint matches, or for a mistake, which is printed in a line.
    """
    if find_spec("jsonargparse") is None:
        print("foresight needs jsonargparse: pip install 'lightning-foresight[cli]'", file=sys.stderr)
        return 1
    if args is None and os.getcwd() not in sys.path:  # where `python -m` finds a project, and a console script does not
        sys.path.insert(0, os.getcwd())
    parser = _parser()
    parsed = parser.parse_args(args)
    try:
        return _measure(_made(parser, parsed).measure)
    except (OSError, TypeError, ValueError) as error:
        if not _is_told(error):
            raise
        print(f"foresight measure: {error}", file=sys.stderr)
        return 1


def _made(parser: ArgumentParser, parsed: Any) -> Any:
    """Make what the arguments describe; the method's name changed with jsonargparse 4.49."""
    return getattr(parser, "instantiate" if hasattr(parser, "instantiate") else "instantiate_classes")(parsed)


def _measure(chosen: Any) -> int:
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
    told = f"{chosen.output}: {len(measured)} of {len(paths)} checkpoints measured"
    if len(measured) < len(paths):
        told += f", {'the others' if measured else 'all'} were there already"
    print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
