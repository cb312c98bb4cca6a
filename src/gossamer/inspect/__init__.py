"""Looking at a model: what it is made of, what it costs, what it attends to."""

from gossamer.inspect.attention import CapturedAttention, capture
from gossamer.inspect.cost import Cost, PartCost, cost
from gossamer.inspect.summary import Node, Summary, summary

__all__ = ["CapturedAttention", "Cost", "Node", "PartCost", "Summary", "capture", "cost", "summary"]
