"""Trains the tiny model on two CPU processes, watched and not, and saves what each rank ends with. Run by a test."""

from __future__ import annotations

import sys

import torch
from pytorch_lightning.loggers import CSVLogger

from tests.contract.cases import CALLBACKS, fit, state_of


def main(folder: str) -> None:
    results = {}
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
        results["watched" if watched else "unwatched"] = state_of(trainer)
        if watched:
            results["histories"] = {name: callback.history.state_dict() for name, callback in callbacks.items()}
            results["failures"] = {name: callback.num_failures for name, callback in callbacks.items()}
    torch.save(results, f"{folder}/rank{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(sys.argv[1])
