"""Recipes: a model in; a longer, smaller or faster model and a receipt out."""

from gossamer.recipes.compact import compact
from gossamer.recipes.distill import distill
from gossamer.recipes.finetune import finetune
from gossamer.recipes.heal import heal
from gossamer.recipes.lengthen import lengthen
from gossamer.recipes.prune import prune
from gossamer.recipes.receipts.receipt import Receipt

__all__ = ["Receipt", "compact", "distill", "finetune", "heal", "lengthen", "prune"]
