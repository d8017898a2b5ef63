"""What touches the user's model: chosen layers, activations, gradients, noise pushed through."""
