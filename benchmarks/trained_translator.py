"""Part `translator` of benchmarks/trained.py: verses from English to Spanish, from fresh weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpora import verses
from harness import progress, verdict
from slim_part import Part, named, text_table
from trained_lexicon import word_by_word
from trained_parts import held_out, no_plot, samples, told_of, trained_once, written_scores

import gossamer as gs
from gossamer.text import Tokenizer, train_tokenizer

MODEL, BEAMS, COPY, WORDS = "translator", "translator, 4 beams", "copying", "word by word"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """3 + 3 layers learn `steps` of about `tokens` English tokens, at most `minutes`; `test` verses are judged."""

    purpose: str
    steps: int
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


PLANS = {
    "cpu": Plan(purpose="measurement", steps=5600, tokens=640, test=1000),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", steps=3, tokens=256, test=8, verses=300, size=32, layers=1,
        heads=2, vocabulary=700,
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
    folder = work / f"translator-{seed}"
    learnt, judged = ([{"text": one, "target": other} for one, other in some] for some in (train, test))
    config = _config(plan, work, folder, seed)
    receipt = trained_once(folder, lambda: gs.train(config, rows=learnt, evaluation_rows=judged))
    model = gs.load(folder / "last")
    for name, beams in ((MODEL, 1), (BEAMS, 4)):
        found = gs.generate(model, texts, max_new_tokens=2 * plan.longest, temperature=0, beams=beams)
        assert found.texts is not None
        told = told_of(receipt) | {"verses": len(train), "seconds_to_write": found.seconds}
        yield {
            "name": name,
            **written_scores(found.texts, wanted),
            **told,
            "samples": samples(texts, wanted, found.texts),
        }


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
    found = {name: named(results, name)[0]["chrf"] for name in (MODEL, BEAMS, COPY, WORDS) if named(results, name)}
    ours = found[MODEL]
    winner = MODEL if ours > found[WORDS] else WORDS
    return [
        verdict(ours > found[COPY], f"chrF above that of copying: {ours:.2f} and {found[COPY]:.2f}"),
        f"against word by word wins: {winner} ({ours:.2f}, by beams {found.get(BEAMS, ours):.2f}; {found[WORDS]:.2f})",
    ]


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=no_plot)
