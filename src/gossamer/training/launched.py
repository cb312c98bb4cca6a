"""What a process knows of those that a launcher started with it before they meet."""

import os

__all__ = ["is_first_process"]


def is_first_process() -> bool:
    """Whether this is the one of all processes that writes files and talks; torchrun and accelerate number them."""
    return int(os.environ.get("RANK", "0")) == 0
