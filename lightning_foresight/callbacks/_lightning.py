"""One callback class for both Lightning packages.

``pytorch_lightning.Callback`` and ``lightning.pytorch.Callback`` are unrelated classes, and a Trainer accepts only its
own. A class that derives from both is at home in either Trainer.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from pytorch_lightning import Callback as PytorchLightningCallback

if TYPE_CHECKING:
    Callback = PytorchLightningCallback
elif find_spec("lightning") is not None and find_spec("lightning.pytorch") is not None:
    from lightning.pytorch import Callback as LightningCallback

    class Callback(PytorchLightningCallback, LightningCallback):
        """A callback of both packages."""
else:
    Callback = PytorchLightningCallback

__all__ = ["Callback"]
