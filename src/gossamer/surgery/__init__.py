"""A model made from a model, without training: other layers, widths, storages; the same weights where they stay."""
