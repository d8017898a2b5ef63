"""Effective information: from the weights of a network, and by perturbing its layers."""
