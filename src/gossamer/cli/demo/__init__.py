"""gossamer demo: the main job on real material, measured, with a receipt and a report."""

from gossamer.cli.demo.command import demo

__all__ = ["demo"]
