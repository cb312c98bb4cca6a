"""What a run writes down while it goes: lines of JSON, TensorBoard files, a live line, a plot."""
