"""What the parts of benchmarks/trained.py share: splits by hash, trainings that are done once, scores of texts."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import gossamer as gs

T = TypeVar("T")
CPU = "cpu-seconds.json"


def held_out(items: Sequence[T], test: int, text_of: Callable[[T], str]) -> tuple[list[T], list[T]]:
    """(learnt from, judged): a hash of its text decides where an item is, so that no text is in both.

    The first `test` in the hash's order are judged, and whatever has the text of one of them. The rest stays as it was.
    """

    def place(item: T) -> bytes:
        return hashlib.sha256(text_of(item).encode()).digest()

    judged: dict[str, T] = {}
    for item in sorted(items, key=place):
        if len(judged) == test:
            break
        judged.setdefault(text_of(item), item)
    return [item for item in items if text_of(item) not in judged], list(judged.values())


def trained_once(folder: Path, train: Callable[[], object]) -> None:
    """A training that is finished in this folder, or else goes on there until it is."""
    if not (folder / "receipt.json").exists():
        before = _cpu_seconds()
        train()
        (folder / CPU).write_text(json.dumps(_cpu_seconds() - before), encoding="utf-8")


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def command(verb: str, *words: object, settings: Mapping[str, object] | None = None) -> None:
    """Run `gossamer VERB`. settings: of a training, each a --set."""
    sets = [part for name, value in (settings or {}).items() for part in ("--set", f"{name}={value}")]
    quiet = ["--set", "journal.live=false"] if settings else []
    subprocess.run([sys.executable, "-m", "gossamer", verb, *map(str, words), *sets, *quiet], check=True)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A jsonl file."""
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def predicted(model: Path, rows: Path, out: Path) -> list[dict[str, Any]]:
    """The rows with what `gossamer predict` says of them."""
    command("predict", model, rows, "--out", out)
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def told_of(folder: Path) -> dict[str, Any]:
    """What a result keeps of the training in this folder; `cpu_seconds` of one that went through in one go."""
    receipt = json.loads((folder / "receipt.json").read_text(encoding="utf-8"))
    names = ("steps", "tokens", "seconds", "ended", "loss", "evaluation", "parameters", "trained")
    spent = json.loads((folder / CPU).read_text(encoding="utf-8")) if (folder / CPU).exists() else None
    return {"training": {name: receipt[name] for name in names} | {"cpu_seconds": spent}}


def written_once(path: Path, model: Path, texts: Sequence[Any], **options: Any) -> tuple[list[str], float]:
    """What `gs.generate` writes with a model, and its seconds; out of a file where it has written that before."""
    if not path.exists():
        found = gs.generate(gs.load(model, dtype="float32"), texts, **options)
        assert found.texts is not None
        path.write_text(json.dumps([found.texts, found.seconds], ensure_ascii=False), encoding="utf-8")
    written, seconds = json.loads(path.read_text(encoding="utf-8"))
    return written, seconds


def written_scores(texts: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """chrF (Popović 2015) and BLEU (Papineni et al. 2002) of all texts together, 0 to 100, by sacrebleu (Post 2018)."""
    import sacrebleu

    found = {
        "chrf": sacrebleu.corpus_chrf(list(texts), [list(wanted)]).score,
        "bleu": sacrebleu.corpus_bleu(list(texts), [list(wanted)]).score,
    }
    return {name: round(score, 2) for name, score in found.items()}


def samples(texts: Sequence[str], wanted: Sequence[str], written: Sequence[str], most: int = 5) -> list[dict[str, str]]:
    """The first few, to be looked at."""
    return [
        {"text": one, "wanted": other, "written": third}
        for one, other, third in list(zip(texts, wanted, written, strict=True))[:most]
    ]


def no_plot(results: dict[str, Any], folder: Path) -> None:
    """Of a part whose numbers are few."""
