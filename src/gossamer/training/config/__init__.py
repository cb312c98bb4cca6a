"""What a training is told, read from YAML or made in Python, and checked before anything is computed."""

from gossamer.training.config.training import TrainingConfig

__all__ = ["TrainingConfig"]
