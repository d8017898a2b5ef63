"""Trains the tiny model on two CPU processes, watched and not: what each rank ends with. Run by ``two_ranks``."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.loggers import CSVLogger

from tests.contract.cases import CALLBACKS, fit, state_of


def results(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for watched in (True, False):
        callbacks = {name: make(prefix=name) for name, make in CALLBACKS.items()} if watched else {}
        trainer = fit(
            [*callbacks.values()],
            devices=2,
            strategy="ddp",
            accumulate_grad_batches=2,
            logger=CSVLogger(folder),
            log_every_n_steps=1,
        )
        found["watched" if watched else "unwatched"] = state_of(trainer)
        if watched:
            found["histories"] = {name: callback.history.state_dict() for name, callback in callbacks.items()}
            found["failures"] = {name: callback.num_failures for name, callback in callbacks.items()}
    return found
