"""Looking at a model: what it is made of, what it costs, what it attends to."""

from gossamer.inspection.attention import CapturedAttention, capture
from gossamer.inspection.attribution import Attribution, attribute
from gossamer.inspection.cost import Cost, PartCost, cost
from gossamer.inspection.importance import HeadImportance, head_importance
from gossamer.inspection.summary import Node, Summary, summary
from gossamer.inspection.viewer import Inspection, inspect

__all__ = [
    "Attribution",
    "CapturedAttention",
    "Cost",
    "HeadImportance",
    "Inspection",
    "Node",
    "PartCost",
    "Summary",
    "attribute",
    "capture",
    "cost",
    "head_importance",
    "inspect",
    "summary",
]
