"""One set of samples for the pairs of a layer and for its outputs as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lightning_foresight.functional.effective_information.noise import clamped_output_codes, num_inputs, respond
from lightning_foresight.functional.effective_information.problem import Problem
from lightning_foresight.functional.effective_information.vector_entropy import VectorCounts


class SharedSamples:
    """A layer whose answers to the noise of others are counted as whole vectors, too.

    Outputs outside the range count to the outermost bins here, whatever those who sample do with them.

    Args:
        owner: Who asks, for error texts.
        problem: The question.
        generator: Draws the keys of vectors.

    Attributes:
        problem: The same question, whose answers can be counted.
        counts: What was counted.
    """

    def __init__(self, owner: str, problem: Problem, generator: torch.Generator) -> None:
        self.counts = VectorCounts(problem.out_bins, generator)
        self._counting = False

        def answers(noise: Tensor) -> Tensor:
            outputs = respond(owner, problem, noise)
            if self._counting:
                self.counts.add(clamped_output_codes(problem, outputs))
            return outputs

        # Activations may mix the outputs: they are part of the answer.
        self.problem = problem._replace(layer=answers, activation=None, affine=None, in_shape=(num_inputs(problem),))

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is answered meanwhile, to the few samples that show how many outputs there are, too."""
        self._counting = True
        try:
            yield
        finally:
            self._counting = False
