"""The layers whose activations a callback watches on samples of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor, nn

from lightning_foresight.callbacks._base import ForesightCallback
from lightning_foresight.callbacks._plane_layers import (
    default_layers,
    has_output,
    reached_layers,
    refuse_rows,
    wrong_rows,
)
from lightning_foresight.probes.activations import capture_activations
from lightning_foresight.probes.isolation import undisturbed
from lightning_foresight.probes.layers import exact_names, listing, select_layers
from lightning_foresight.probes.samples import cut_batch

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

    Of the layers by default, those that give no row for each sample are left out, unless that leaves none.

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

    def reach(some: dict[str, nn.Module]) -> tuple[dict[str, nn.Module], dict[str, tuple[int, int]]]:
        reached = reached_layers(some, exact_names(callback.layers), lambda: run(batch), owner, reduce)
        return reached, wrong_rows(lambda part: capture_activations(reached, [part], run, reduce), batch)

    def measurable(module: nn.Module) -> bool:
        try:
            return not reach({"bottleneck": module})[1]
        except Exception:  # what ``reduce`` does not take, for one
            return False

    with undisturbed(pl_module, seed=callback.seed), trainer.precision_plugin.forward_context():
        default = None
        if callback.layers is None:
            few = cut_batch(batch, 2)  # all tensors between the layers are kept for a moment
            default = default_layers(pl_module, lambda: run(few), measurable)
        modules = select_layers(pl_module, callback.layers, measurable=has_output, default=default, owner=owner)
        reached, wrong = reach(modules)
    silent, modules = [name for name in modules if name not in reached], reached
    rowless = {name.split(":")[0] for name in wrong}  # a second call is name:2
    if callback.layers is not None or rowless == set(modules):
        refuse_rows(wrong, owner)
    elif wrong:
        modules = {name: module for name, module in modules.items() if name not in rowless}
        left_out = listing([name for name in reached if name in rowless])
        rank_zero_info(f"{owner}: leaves out {left_out}, without a row for each sample; see reduce= and layers=.")
    if silent and callback.layers is not None:
        rank_zero_info(f"{owner}: leaves out {listing(silent)}, never called in a forward pass.")
    return modules
