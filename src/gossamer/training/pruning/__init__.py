"""Pruning: scores say what matters, structures which weights are one, schedules how much is kept at a step."""
