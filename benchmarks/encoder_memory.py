"""Peak memory of one library's whole model: prints one JSON line a length, as attention_memory.py does.

encoder_memory.py NAME SIZE FOLDER DTYPE SEED N [N ...]
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import torch
from encoder_models import load_encoder, make_ids
from peak_memory import extra_memory

WARM_UP = 512


def main(name: str, size: str, folder: str, dtype: str, seed: str, *lengths: str) -> None:
    encoder = load_encoder(name, Path(folder), getattr(torch, dtype))
    encoder(make_ids(size, WARM_UP, int(seed)))
    for n in map(int, lengths):
        print(json.dumps({"n": n, "extra": extra_memory(partial(encoder, make_ids(size, n, int(seed))))}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
