"""What is measured of a trimmed model: the same tokens, rows and outputs for texts of the tokens that stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer.models.evaluation import evaluating
from gossamer.models.model import Model
from gossamer.recipes.vocabulary.corpora import CountedTexts, count_tokens
from gossamer.recipes.vocabulary.tables import vocabulary_axes
from gossamer.text import Document, Tokenizer

__all__ = ["compare_models", "compare_texts"]

_PASSAGES, _TOKENS = 8, 128
"""Passages of the texts that both models read, and tokens of each."""
_WORDS = 8
"""Words of the short texts whose tokens are compared."""
_ROWS = 2**14


def compare_models(old: Model, new: Model, old_ids: Sequence[int], counted: CountedTexts) -> dict[str, float]:
    """What the receipt shows of both models, taken from the tokens and passages of the texts themselves.

    `tokens_kept`: the share of the texts' tokens that stay. `same_tokens`: of short texts of kept tokens, the share
    that has the same. `same_rows`: the share of tokens whose rows are the same in all tables, to the bit.
    `largest_difference_of_outputs`: of states, scores of kept tokens, and vectors, over the largest of the old ones.
    """
    kept = np.zeros(len(counted.counts), dtype=bool)
    kept[[number for number in old_ids if number < len(kept)]] = True
    measured = {"tokens_kept": float(counted.counts[kept].sum() / counted.tokens)}
    same = [
        before == after
        for before, after in _tokens_of(old.tokenizer, new.tokenizer, counted.passages)
        if all(kept[old.tokenizer.token_id(token)] for token in before)
    ]
    measured |= {"same_tokens": sum(same) / len(same)} if same else {}
    measured["same_rows"] = _same_rows(old, new)
    measured["largest_difference_of_outputs"] = _difference(old, new, old_ids, kept, counted.passages)
    return measured


def compare_texts(documents: Iterable[Document], before: Tokenizer, after: Tokenizer) -> dict[str, float]:
    """What other texts become: the share of their tokens that stay, and how many tokens they are, unknown ones too."""
    old, new = count_tokens("evaluate", documents, before, after)
    names = before.tokens(np.flatnonzero(old.counts).tolist())
    seen = old.counts[old.counts > 0]
    kept = np.array([after.token_id(name) is not None for name in names])
    measured: dict[str, float] = {
        "evaluate_tokens_kept": float(seen[kept].sum() / old.tokens),
        "evaluate_tokens_before": old.tokens,
        "evaluate_tokens_after": new.tokens,
    }
    for when, texts, tokenizer in (("before", old, before), ("after", new, after)):
        if tokenizer.unk_id is not None:
            measured[f"evaluate_unknown_{when}"] = int(texts.counts[tokenizer.unk_id])
    return measured


def _tokens_of(old: Tokenizer, new: Tokenizer, passages: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """The tokens of short texts by both tokenizers."""
    for passage in passages:
        words = passage.split(" ")
        for start in range(0, len(words), _WORDS):
            text = " ".join(words[start : start + _WORDS])
            before, after = (one.tokens(one.encode_plain(text)[0]) for one in (old, new))
            yield before, after


def _same_rows(old: Model, new: Model) -> float:
    """The rows are found by the tokens' names, not by how they were taken."""
    numbers = {number: new.tokenizer.token(number) for number in range(new.tokenizer.vocabulary_size)}
    after = torch.tensor(list(numbers))
    before = torch.tensor([old.tokenizer.token_id(name) for name in numbers.values()])
    same = torch.ones(len(after), dtype=torch.bool)
    for name, axis in vocabulary_axes(new.architecture).items():
        tables = [_rows_of(model.state_dict()[name], axis) for model in (old, new)]
        for start in range(0, len(after), _ROWS):
            part = slice(start, start + _ROWS)
            same[part] &= (tables[0][before[part]] == tables[1][after[part]]).all(dim=1)
    return float(same.double().mean())


def _rows_of(tensor: Tensor, axis: int) -> Tensor:
    """What a table, or a bias, has for each token, [tokens, numbers]."""
    return tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1).cpu()


@torch.no_grad()
def _difference(old: Model, new: Model, old_ids: Sequence[int], kept: np.ndarray, passages: Sequence[str]) -> float:
    new_ids = {number: i for i, number in enumerate(old_ids)}
    most = min(_TOKENS, old.architecture.length)
    worst = 0.0
    with evaluating(old), evaluating(new):
        for passage in passages[:_PASSAGES]:
            ids = [number for number in old.tokenizer.encode_plain(passage)[0] if kept[number]][:most]
            if not ids:
                continue
            before = _outputs(old, ids)
            after = _outputs(new, [new_ids[number] for number in ids])
            if old.architecture.head is not None and old.architecture.head.scores_words:
                before["logits"] = before["logits"][..., list(old_ids)]
            for name, value in before.items():
                scale = value.abs().max().clamp_min(torch.finfo(value.dtype).tiny)
                worst = max(worst, float((after[name] - value).abs().max() / scale))
    return worst


def _outputs(model: Model, ids: list[int]) -> dict[str, Tensor]:
    """All that a model gives for one text, in float64 on the CPU; the first token is global where any is."""
    tokens = torch.tensor([ids], device=next(model.parameters()).device)
    head = model.architecture.head
    if head is not None and head.takes_choices:
        tokens = tokens[:, None]
    is_global: dict[str, Any] = {}
    if model.architecture.takes_global_tokens:
        is_global["global_mask"] = torch.zeros_like(tokens)
        is_global["global_mask"][..., 0] = 1
    out = model(tokens, **is_global)
    names = ("last_hidden_state", "logits", "pair_logits", "pooled")
    return {name: value.double().cpu() for name in names for value in [getattr(out, name)] if value is not None}
