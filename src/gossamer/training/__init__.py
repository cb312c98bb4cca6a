"""Training: data, objectives, optimizers, the loop and its state."""
