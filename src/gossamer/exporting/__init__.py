"""Models as graphs that run without this library: torch.export (.pt2) and ONNX, each checked beside its model."""

from gossamer.exporting.exporter import export
from gossamer.exporting.result import Exported

__all__ = ["Exported", "export"]
