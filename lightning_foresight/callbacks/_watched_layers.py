"""The layers whose activations a callback watches on samples of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor, nn

from lightning_foresight.callbacks._base import ForesightCallback
from lightning_foresight.callbacks._plane_layers import (
    check_first_axis,
    check_rows,
    default_layers,
    has_output,
    reached_layers,
)
from lightning_foresight.probes.activations import capture_activations
from lightning_foresight.probes.isolation import undisturbed
from lightning_foresight.probes.layers import exact_names, listing, select_layers
from lightning_foresight.probes.samples import batch_length, cut_batch, split_batch

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


def watched_layers(
    callback: ForesightCallback,
    trainer: Trainer,
    pl_module: LightningModule,
    batch: Any,
    reduce: Callable[[Tensor], Tensor],
) -> dict[str, nn.Module]:
    """Choose the layers and run the model on one batch, so that mistakes show before training.

    Args:
        callback: Who asks; its ``layers``, or those by default.
        trainer: Its trainer.
        pl_module: The model.
        batch: A batch on the device.
        reduce: How outputs become rows.

    Raises:
        ValueError: For a name that no layer has or whose layer never runs, a model that cannot be run, or a layer that
            gives no row for each sample.
    """
    owner = callback.name

    def run(some: Any) -> Any:
        return callback.run_model(pl_module, some)

    default = None
    if callback.layers is None:
        few = cut_batch(batch, 2)  # all tensors between the layers are kept for a moment
        with undisturbed(pl_module, seed=callback.seed), trainer.precision_plugin.forward_context():
            default = default_layers(pl_module, lambda: run(few), batch_length(split_batch(few)[0]))
    modules = select_layers(pl_module, callback.layers, measurable=has_output, default=default, owner=owner)

    def capture(some: Any) -> dict[str, Tensor]:
        return capture_activations(modules, [some], run, reduce)

    with undisturbed(pl_module, seed=callback.seed), trainer.precision_plugin.forward_context():
        reached = reached_layers(modules, exact_names(callback.layers), lambda: run(batch), owner, reduce)
        silent, modules = [name for name in modules if name not in reached], reached
        check_rows(capture(batch), batch, owner)
        check_first_axis(capture, batch, owner)
    if silent and callback.layers is not None:
        rank_zero_info(f"{owner}: leaves out {listing(silent)}, never called in a forward pass.")
    return modules
