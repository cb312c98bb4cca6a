"""A student that learns from a teacher: its outputs, states, attention and vectors, and their cache."""
