"""Looking at a model: what it is made of and what it costs."""

from gossamer.inspect.cost import Cost, PartCost, cost
from gossamer.inspect.summary import Node, Summary, summary

__all__ = ["Cost", "Node", "PartCost", "Summary", "cost", "summary"]
