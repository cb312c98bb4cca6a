"""What a recipe changed, measured: one form of receipt, tables and pages of several models."""
