"""Models on disk and on the hub: `load` and `save`, `download` and `upload`."""

from gossamer.checkpoints.download import download
from gossamer.checkpoints.load import load
from gossamer.checkpoints.save import save
from gossamer.checkpoints.upload import upload

__all__ = ["download", "load", "save", "upload"]
