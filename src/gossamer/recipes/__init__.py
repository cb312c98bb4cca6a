"""Recipes: a model in; a longer, smaller or faster model and a receipt out."""

from gossamer.recipes.distill import distill
from gossamer.recipes.finetune import finetune
from gossamer.recipes.heal import heal
from gossamer.recipes.lengthen import lengthen
from gossamer.recipes.receipts.receipt import Receipt
from gossamer.recipes.sharing import share

__all__ = ["Receipt", "distill", "finetune", "heal", "lengthen", "share"]
