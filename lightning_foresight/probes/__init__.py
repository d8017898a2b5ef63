"""What touches the user's model: chosen layers, activations, gradients, noise pushed through."""

from lightning_foresight.probes.noise_scale import probe_noise_scale

__all__ = ["probe_noise_scale"]
