"""Models on disk and on the hub: `load` and `save`."""

from gossamer.checkpoints.load import load
from gossamer.checkpoints.save import save

__all__ = ["load", "save"]
