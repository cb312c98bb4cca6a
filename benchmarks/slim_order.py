"""Part `order` of benchmarks/slim.py: small ALBERTs and BERTs from scratch, by what they learn of two segments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from harness import progress
from slim_part import Part, named, names_of, text_table, verdict
from slim_plots import order_plot
from slim_speeches import by_speakers

from gossamer.metrics import estimate_mean, paired_difference
from gossamer.models import Model
from gossamer.models.heads.labels import IGNORED
from gossamer.text import Document, Tokenizer, tokenize, train_tokenizer
from gossamer.training.data.token_batches import Batches
from gossamer.training.loop import train
from gossamer.training.objectives import LanguageObjective, Objective

ARMS = {
    "ALBERT, sentence order": ("albert", "sentence-order"),
    "ALBERT, next sentence": ("albert", "next-sentence"),
    "ALBERT, masked words alone": ("albert", "masked-lm"),
    "BERT, sentence order": ("bert", "sentence-order"),
}
"""Its family and its objective."""
JUDGED = {"order": "sentence-order", "next": "next-sentence"}
"""Of what every model is asked which of two segments it is."""
PAPER = {
    "next-sentence model on order": 52.0, "order model on order": 86.5, "order model on next sentence": 78.9,
    "no pairs": 79.0, "next sentence": 79.2, "sentence order": 80.1,
}  # fmt: skip
"""ALBERT, table 5: accuracies of both tasks, and the average of its development sets."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Each model learns for `minutes` (or `steps`) from `texts` speeches (None: all of those that are learnt from);
    `pairs` of held-out `speakers` are judged, of every kind.
    """

    purpose: str
    minutes: float | None
    seeds: int
    steps: int | None = None
    texts: int | None = None
    pairs: int = 2000
    vocabulary: int = 4000
    speakers: int = 9
    rows: int = 16
    length: int = 128
    hidden_size: int = 192
    layers: int = 4
    heads: int = 4
    embedding_size: int = 64
    initial: float = 0.05
    learning_rate: float = 1e-3


PLANS = {
    "cpu": Plan(purpose="measurement", minutes=8.5, seeds=1),
    "gpu": Plan(purpose="measurement", minutes=60, seeds=3, hidden_size=512, layers=8, heads=8, embedding_size=128),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", minutes=None, steps=2, texts=4, seeds=1, pairs=8,
        vocabulary=300, rows=4, length=64, hidden_size=16, layers=2, embedding_size=8,
    ),
}  # fmt: skip


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model and seed: which held-out pairs it tells rightly, and which masked tokens."""
    learnt, judged = by_speakers(plan.speakers)
    texts = [one.text for one in learnt][: plan.texts]
    tokenizer = train_tokenizer(texts, family="bert", vocabulary_size=plan.vocabulary)
    (work / "tokenizer").mkdir(parents=True, exist_ok=True)
    tokenizer.save(work / "tokenizer")
    for number in range(seed, seed + plan.seeds):
        for name, (family, objective) in ARMS.items():
            progress(f"{name}, seed {number}")
            folder = work / f"{name.replace(', ', '-').replace(' ', '-')}-{number}"
            config = _config(plan, family, objective, tokenizer, work, folder, number)
            model, receipt = train(config, rows=[{"text": text} for text in texts])
            told = {
                kind: _told(model, tokenizer, kind, [one.text for one in judged][: plan.texts], plan) for kind in JUDGED
            }
            yield {
                "name": name, "seed": number, "parameters": sum(one.numel() for one in model.parameters()),
                "steps": receipt.steps, "tokens": receipt.tokens, **told,
            }  # fmt: skip


def _config(
    plan: Plan, family: str, objective: str, tokenizer: Tokenizer, work: Path, folder: Path, seed: int
) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "model_type": family, "architectures": [f"{family.capitalize()}ForPreTraining"],
        "hidden_size": plan.hidden_size, "num_hidden_layers": plan.layers, "num_attention_heads": plan.heads,
        "intermediate_size": 4 * plan.hidden_size, "max_position_embeddings": plan.length,
        "pad_token_id": tokenizer.pad_id, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "initializer_range": plan.initial,
    }  # fmt: skip
    if family == "albert":
        sizes["embedding_size"] = plan.embedding_size
    return {
        "model": {"config": sizes},
        "data": {"tokenizer": str(work / "tokenizer")},
        "objective": {"kind": objective, "masking": "n-gram"},
        "batch": {"rows": plan.rows, "length": plan.length},
        "optimizer": {"name": "adamw", "learning_rate": plan.learning_rate, "weight_decay": 0.01},
        "schedule": {"name": "constant", "warmup": min(100, plan.steps or 100)},
        **({"steps": plan.steps} if plan.steps else {"minutes": plan.minutes}),
        "checkpoints": {"every": 100, "keep": 1},
        "journal": {"live": False},
        "seed": seed,
        "output": str(folder),
    }  # fmt: skip


@torch.no_grad()
def _told(model: Model, tokenizer: Tokenizer, kind: str, texts: list[str], plan: Plan) -> dict[str, Any]:
    """Of each held-out pair 1 where it is told rightly, 0 where not; and the share of masked tokens that is."""
    objective = Objective(kind=JUDGED[kind])
    assert isinstance(objective, LanguageObjective)
    file = tokenize([Document(source="held out", number=i, parts=[text]) for i, text in enumerate(texts)], tokenizer)
    batches = Batches(
        file=file, tokenizer=tokenizer, objective=objective, length=plan.length, batch=4, held_out_file=file
    )
    right: list[int] = []
    masked = [0, 0]
    for batch in batches.evaluation():
        inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask") if name in batch}
        out = model(**inputs)
        is_pair = batch["pair_labels"] != IGNORED
        right += (out.pair_logits.argmax(-1) == batch["pair_labels"])[is_pair].int().tolist()
        is_masked = batch["labels"] != IGNORED
        masked[0] += int((out.logits.argmax(-1) == batch["labels"])[is_masked].sum())
        masked[1] += int(is_masked.sum())
        if len(right) >= plan.pairs:
            break
    return {"right": right[: plan.pairs], "masked_accuracy": masked[0] / max(masked[1], 1)}


def _right(results: dict[str, Any], name: str, kind: str) -> list[float]:
    """Of each held-out pair the share of seeds that tell it."""
    columns = [row[kind]["right"] for row in named(results, name)]
    return [sum(values) / len(values) for values in zip(*columns, strict=True)]


def verdicts(results: dict[str, Any]) -> list[str]:
    """The paper's claims, and whether they hold here."""
    order, following, bert = "ALBERT, sentence order", "ALBERT, next sentence", "BERT, sentence order"
    there, told = names_of(results), []
    if following in there:
        of_order = estimate_mean(torch.tensor(_right(results, following, "order")))
        near = of_order.value - 2 * of_order.standard_error < 0.55
        told.append(verdict(near, f"the next-sentence model tells order near chance (paper 52%): {of_order}"))
    if order in there and following in there:
        more = paired_difference(_right(results, order, "order"), _right(results, following, "order"))
        assert more is not None
        told.append(verdict(more.low > 0.05, f"the order model tells order well above that (paper 86.5%): {more}"))
    if order in there and bert in there:
        less = paired_difference(_right(results, order, "order"), _right(results, bert, "order"))
        masked = [named(results, name)[0]["order"]["masked_accuracy"] for name in (order, bert)]
        told.append(
            f"at equal time ALBERT less BERT: order {less}; masked words {masked[0]:.4f} against {masked[1]:.4f}"
        )
    return told


def tables(results: dict[str, Any]) -> list[str]:
    """A line a model."""
    lines = []
    for name in names_of(results):
        first = named(results, name)[0]
        shares = [sum(right) / len(right) for right in (_right(results, name, kind) for kind in JUDGED)]
        lines.append(
            [name, f"{first['parameters'] / 1e6:.2f}", f"{first['steps']:,}", f"{first['tokens'] / 1e6:.1f}",
             *(f"{share:.4f}" for share in shares), f"{first['order']['masked_accuracy']:.4f}"]
        )  # fmt: skip
    header = ["from scratch", "million parameters", "steps", "million tokens", "order", "next sentence", "masked words"]
    return text_table(header, lines)


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=order_plot, paper=PAPER)
