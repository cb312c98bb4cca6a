"""What turns gradients into weights: optimizers, schedules, adapters, averages."""
