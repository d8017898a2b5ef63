"""Dependence between two sets of samples, by kernels and distances."""

from lightning_foresight.functional.dependence.hsic import cka, distance_correlation, hsic, nhsic

__all__ = ["cka", "distance_correlation", "hsic", "nhsic"]
