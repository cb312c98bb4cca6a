"""Checkpoints of a run, and whether a run may go on from one."""
