"""What a training will take before it begins: memory and time."""
