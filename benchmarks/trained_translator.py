"""Part `translator` of benchmarks/trained.py: verses from English to Spanish, from fresh weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpora import verses
from harness import progress, verdict
from slim_part import Part, named, text_table
from trained_lexicon import lexicon, parts_of, word_by_word
from trained_parts import held_out, no_plot, samples, told_of, trained_once, written_once, written_scores

import gossamer as gs
from gossamer.text import Tokenizer, train_tokenizer

MODEL, HELPED, COPY, WORDS = "verses alone", "parts and words, too", "copying", "word by word"
BEAMS = 4
LIKELY = 0.1
"""From here on a word of the lexicon is a row."""

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """3 + 3 layers learn `steps` of about `tokens` English tokens, at most `minutes`; `test` verses are judged.

    helped: steps of another model, which learns from verses, what stands between their marks, and words of the lexicon
    that comes of them.
    """

    purpose: str
    steps: int
    helped: int
    tokens: int
    test: int
    minutes: float = 40
    verses: int | None = None
    size: int = 192
    layers: int = 3
    heads: int = 4
    vocabulary: int = 4096
    longest: int = 40
    learning_rate: float = 1.5e-3
    helped_rate: float = 1e-3
    helped_tokens: int = 480
    helped_minutes: float = 5.5


PLANS = {
    "cpu": Plan(purpose="measurement", steps=5600, helped=1100, tokens=640, test=1000),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", steps=3, helped=3, tokens=256, test=8, verses=300, size=32,
        layers=1, heads=2, vocabulary=700,
    ),
}  # fmt: skip


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record for each floor and for what was trained, with the scores of what it wrote."""
    pairs = verses()[: plan.verses]
    tokenizer = _tokenizer(pairs, plan, work)
    short = [pair for pair in pairs if all(len(tokenizer.encode_plain(one)[0]) <= plan.longest for one in pair)]
    train, test = held_out(short, plan.test, lambda pair: pair[0])
    progress(
        f"{len(short):,} of {len(pairs):,} verses have at most {plan.longest} tokens; {len(train):,} to learn from"
    )
    texts, wanted = ([pair[side] for pair in test] for side in (0, 1))
    yield {"name": COPY, **written_scores(texts, wanted)}
    words = word_by_word(train, texts)
    yield {"name": WORDS, **written_scores(words, wanted), "samples": samples(texts, wanted, words)}
    for name, folder in _trained(plan, work, train, test, seed).items():
        for beams in (1, BEAMS):
            options = {"max_new_tokens": 2 * plan.longest, "temperature": 0, "beams": beams}
            written, seconds = written_once(folder / f"written-{beams}.json", folder / "last", texts, **options)
            told = {"verses": len(train), "seconds_to_write": seconds, "beams": beams, **told_of(folder)}
            called = name if beams == 1 else beamed(name)
            yield {
                "name": called,
                **written_scores(written, wanted),
                **told,
                "samples": samples(texts, wanted, written),
            }


def beamed(name: str) -> str:
    return f"{name}, {BEAMS} beams"


def _trained(plan: Plan, work: Path, train: Sequence[Pair], test: Sequence[Pair], seed: int) -> dict[str, Path]:
    """The folders of both runs: of verses alone, and of parts and words beside them, with tables of their own."""
    folders = {MODEL: work / f"translator-{seed}", HELPED: work / f"helped-{seed}"}
    first, second = (_config(plan, work, folder, seed) for folder in folders.values())
    second |= {"steps": plan.helped, "dropout": 0.0, "objective": {"kind": "seq2seq-lm"}, "schedule": {"warmup": 0.1}}
    second["optimizer"] = first["optimizer"] | {"learning_rate": plan.helped_rate}
    second |= {"batch": first["batch"] | {"tokens": plan.helped_tokens}, "minutes": plan.helped_minutes}
    second |= {"evaluation": {"every": max(1, plan.helped // 4)}, "average": {"decay": 0.99}}
    # Where the encoder reads the table that the head writes with, all of its states come to point the same way.
    second["model"] = {"config": first["model"]["config"] | {"share_encoder_decoder_embeddings": False}}
    judged = as_rows(test)
    trained_once(folders[MODEL], lambda: gs.train(first, rows=as_rows(train), evaluation_rows=judged))
    helped = as_rows([*train, *helpers(train) * 2])
    trained_once(folders[HELPED], lambda: gs.train(second, rows=helped, evaluation_rows=judged))
    return folders


def as_rows(pairs: Sequence[Pair]) -> list[dict[str, str]]:
    return [{"text": one, "target": other} for one, other in pairs]


def helpers(train: Sequence[Pair]) -> list[Pair]:
    """Parts of verses between marks, and each word that the lexicon is fairly sure of; all is from these verses."""
    words = [(one, other) for one, (other, likely) in lexicon(train).items() if likely > LIKELY and one.isalpha()]
    return [*(part for pair in train for part in parts_of(pair)), *words]


def _tokenizer(pairs: Sequence[tuple[str, str]], plan: Plan, work: Path) -> Tokenizer:
    """One vocabulary of pieces for both languages."""
    folder = work / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        texts = [text for pair in pairs for text in pair]
        train_tokenizer(texts, family="xlm-roberta", vocabulary_size=plan.vocabulary).save(folder)
    return Tokenizer.load(folder)


def _config(plan: Plan, work: Path, folder: Path, seed: int) -> dict[str, Any]:
    """What `gossamer train` reads. Weights are drawn about as wide as 1 / sqrt(size)."""
    sizes = {
        f"{stack}_{what}": value
        for stack in ("encoder", "decoder")
        for what, value in (("layers", plan.layers), ("attention_heads", plan.heads), ("ffn_dim", 4 * plan.size))
    }
    tokens = {"pad_token_id": 1, "decoder_start_token_id": 2}
    model = {
        "model_type": "marian", "architectures": ["MarianMTModel"], "d_model": plan.size, **sizes, **tokens,
        "max_position_embeddings": 128, "scale_embedding": True, "activation_function": "relu", "dropout": 0.1,
        "init_std": round(plan.size**-0.5, 3),
    }  # fmt: skip
    return {
        "model": {"config": model},
        "data": {"tokenizer": str(work / "tokenizer")},
        "objective": {"kind": "seq2seq-lm", "label_smoothing": 0.1},
        "batch": {"tokens": plan.tokens, "length": 2 * plan.longest},
        "optimizer": {"learning_rate": plan.learning_rate, "betas": [0.9, 0.98]},
        "schedule": {"warmup": 0.06},
        "average": {"decay": 0.998},
        "steps": plan.steps,
        "minutes": plan.minutes,
        "evaluation": {"every": max(1, plan.steps // 8)},
        "checkpoints": {"every": 500, "keep": 1},
        "journal": {"live": False, "every": 10},
        "seed": seed,
        "output": str(folder),
    }


def tables(results: dict[str, Any]) -> list[str]:
    """Scores of what each wrote."""
    told = [[row["name"], f"{row['chrf']:.2f}", f"{row['bleu']:.2f}"] for row in results["rows"]]
    return text_table(["", "chrF", "BLEU"], told)


def verdicts(results: dict[str, Any]) -> list[str]:
    """Whether it beats copying, and who wins against word by word."""
    if not named(results, MODEL):
        return []
    found = {row["name"]: row["chrf"] for row in results["rows"]}
    floor, words = found[COPY], found[WORDS]
    trained = {name: score for name, score in found.items() if name not in (COPY, WORDS)}
    best = max(trained, key=lambda name: trained[name])
    return [
        *(
            verdict(score > floor, f"{name}: chrF above copying, {score:.2f} and {floor:.2f}")
            for name, score in trained.items()
        ),
        f"against word by word wins: {best if trained[best] > words else WORDS} ({trained[best]:.2f} and {words:.2f})",
    ]


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=no_plot)
