"""What lengthening without training does to tokens: windows of all sizes, the first token global and not, and hashing.

    python benchmarks/lengthening.py [--texts N] [--tokens N] [--out FILE.json]

MiniLM (512 learned positions) reads the beginnings of shipped speeches. Each token's state in the lengthened model is
compared, by cosine, with its state in passes of 512 by the original model that begin every 256 tokens, of which the
middle is taken, so that every token has 126 others or the text's end on either side. Chunks of 512 side by side, half
a chunk out of step, are compared too: that is how far short readings differ from each other. Nothing is timed, so it
may run beside other work.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from harness import conditions, progress, table, write_json
from torch import Tensor

import gossamer as gs
from gossamer.models import Model
from gossamer.text import speeches

WINDOWS = (128, 256, 384, 512, 768, 896, 1022)
WAYS = ("none", "first")
ROUNDS = (1, 4, 8)
COSINES = ("cosine", "cosine_at_copies_of_position_0")
SHORT = 512


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=4, help="speeches to read, spread over the years")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of each, special ones included")
    parser.add_argument("--out", type=Path, help="write the results here, as JSON")
    args = parser.parse_args(given)
    model = gs.load("sample:minilm", head="none", dtype="float32")
    texts = draw_texts(model, args.texts, args.tokens)
    results = {
        "benchmark": "lengthening",
        "conditions": conditions(dtype="float32", texts=[name for name, _ in texts], tokens=args.tokens, short=SHORT),
        **measure(model, [ids for _, ids in texts]),
    }
    if args.out is not None:
        write_json(args.out, results)
    print(report(results))
    return 0


def draw_texts(model: Model, count: int, tokens: int) -> list[tuple[str, Tensor]]:
    """The beginnings of speeches of at least so many tokens, spread over the years, [1, tokens] in their frame."""
    tokenizer, found = model.tokenizer, []
    for speech in speeches():
        # A token is at least a character, and seldom more than eight.
        if len(speech.text) >= 3 * tokens:
            ids, _ = tokenizer.encode_plain(speech.text[: 8 * tokens])
            if len(ids) >= tokens - 2:
                framed = torch.tensor([[tokenizer.cls_id, *ids[: tokens - 2], tokenizer.sep_id]])
                found.append((f"{speech.speaker}, {speech.year}", framed))
    step = max(len(found) // count, 1)
    return found[step // 2 :: step][:count]


@torch.inference_mode()
def measure(model: Model, texts: Sequence[Tensor]) -> dict[str, Any]:
    """Cosines, averaged over all tokens of all texts, by window and by global tokens; of chunks; of copied row 0."""
    progress("passes of the original model")
    references = [overlapping(model, ids) for ids in texts]
    chunked = [side_by_side(model, ids) for ids in texts]
    rows = []
    for window in WINDOWS:
        for which in WAYS:
            progress(f"window {window}, global tokens: {which}")
            long, _ = gs.lengthen(model, to=texts[0].shape[1], window=window, global_tokens=which, force=True)
            cosines = [cosine(long(ids).last_hidden_state[0], one) for ids, one in zip(texts, references, strict=True)]
            rows.append({"window": window, "global_tokens": which, **summarize(cosines)})
    hashed = []
    for rounds in ROUNDS:
        progress(f"hashed, {rounds} rounds")
        long = by_hashes(model, texts[0].shape[1], rounds)
        cosines = [cosine(long(ids).last_hidden_state[0], one) for ids, one in zip(texts, references, strict=True)]
        hashed.append({"rounds": rounds, "pattern": long.architecture.layers[0].attention.pattern.to_dict()})
        hashed[-1] |= summarize(cosines)
    alike = [cosine(one, other) for one, other in zip(chunked, references, strict=True)]
    return {"chunks": summarize(alike), "rows": rows, "hashed": hashed}


def by_hashes(model: Model, tokens: int, rounds: int) -> Model:
    """Lengthened with the usual buckets, of so many rounds."""
    usual, _ = gs.lengthen(model, to=tokens, pattern="hashed")
    pattern = usual.architecture.layers[0].attention.pattern
    assert isinstance(pattern, gs.Hashed)
    return gs.lengthen(model, to=tokens, pattern=replace(pattern, rounds=rounds, seed=0))[0]


def cosine(states: Tensor, others: Tensor) -> Tensor:
    """[tokens], of those between [CLS] and [SEP]."""
    return torch.nn.functional.cosine_similarity(states.double(), others.double(), dim=-1)[1:-1]


def summarize(cosines: Sequence[Tensor]) -> dict[str, Any]:
    """The mean over all tokens, and over those on copies of position 0 (512, 1,024 ...); that of each text."""
    copied = [one[SHORT - 1 :: SHORT] for one in cosines]
    return {
        "cosine": float(torch.cat(list(cosines)).mean()),
        "cosine_at_copies_of_position_0": float(torch.cat(copied).mean()),
        "of_each_text": [float(one.mean()) for one in cosines],
    }


def overlapping(model: Model, ids: Tensor) -> Tensor:
    """[tokens, hidden] from passes of 512 that begin every 256 tokens, the middle of each."""
    inner, room = ids[0, 1:-1], SHORT - 2
    states = torch.empty(len(inner), model.architecture.hidden_size)
    for start in range(0, max(len(inner) - room, 0) + SHORT // 2, SHORT // 2):
        begin = min(start, max(len(inner) - room, 0))
        found = read(model, ids, begin, begin + room)
        keep = 0 if begin == 0 else start + SHORT // 4 - begin
        states[begin + keep : begin + room] = found[keep:]
    return torch.cat([torch.zeros_like(states[:1]), states, torch.zeros_like(states[:1])])


def side_by_side(model: Model, ids: Tensor) -> Tensor:
    """[tokens, hidden] from chunks of 512 one after the other, the first of them half as long."""
    room = SHORT - 2
    edges = [0, *range(room // 2, ids.shape[1] - 2, room), ids.shape[1] - 2]
    states = torch.cat([read(model, ids, start, stop) for start, stop in pairwise(edges)])
    return torch.cat([torch.zeros_like(states[:1]), states, torch.zeros_like(states[:1])])


def read(model: Model, ids: Tensor, start: int, stop: int) -> Tensor:
    """The states of tokens start to stop of the text, read alone in its frame."""
    framed = torch.cat([ids[:, :1], ids[:, 1:-1][:, start:stop], ids[:, -1:]], dim=1)
    return model(framed).last_hidden_state[0, 1:-1]


def report(results: dict[str, Any]) -> str:
    """Conditions, and a line a window and number of rounds."""
    by = {(row["window"], row["global_tokens"]): row for row in results["rows"]}
    rows = [
        [
            str(window),
            *(f"{by[window, which][key]:.3f}" for key in COSINES for which in WAYS),
        ]
        for window in WINDOWS
    ]
    for row in results["hashed"]:
        rows.append([f"hashed, {row['rounds']} rounds", f"{row['cosine']:.3f}", "", f"{row[COSINES[1]]:.3f}", ""])
    rows.append(["chunks of 512", f"{results['chunks']['cosine']:.3f}", "", "", ""])
    told = "\n".join(f"{name}: {value}" for name, value in results["conditions"].items())
    header = ["window", "none", "first", "at copies of 0: none", "first"]
    return "\n\n".join([told, table(header, rows)])


if __name__ == "__main__":
    sys.exit(main())
