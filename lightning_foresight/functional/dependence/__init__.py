"""Dependence between two sets of samples, by kernels and distances."""

from lightning_foresight.functional.dependence.hsic import cka, distance_correlation, hsic, nhsic
from lightning_foresight.functional.dependence.independence import IndependenceTest, independence_test

__all__ = ["IndependenceTest", "cka", "distance_correlation", "hsic", "independence_test", "nhsic"]
