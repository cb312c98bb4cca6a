"""How likely given continuations are: the logarithm of each token's probability behind its prompt."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError, ItemError, plural, quote
from gossamer.generation.generate import require_writer
from gossamer.generation.inputs import (
    Prompts,
    check_flag,
    check_prompt,
    end_ids,
    is_one_prompt,
    prompt_texts,
    read_prompts,
)
from gossamer.generation.joined import joined_ids
from gossamer.generation.options import read_start
from gossamer.generation.readers import padded
from gossamer.generation.sampling import checked_scores
from gossamer.models.batches import tokens_at_once
from gossamer.models.cache import Cache
from gossamer.models.evaluation import evaluating, without_head
from gossamer.models.model import Model

__all__ = ["ContinuationScore", "Continuations", "score_continuations"]

Texts = str | Sequence[str] | Sequence[Sequence[int]]
Continuations = Texts | Sequence[Texts]
"""Those of one prompt, or a list of them for each prompt."""
Progress = Callable[[int, int], None]

_TILE_SCORES = 2**22
"""Scores that exist at once."""


@dataclass(frozen=True, kw_only=True)
class ContinuationScore:
    """A continuation's token `ids` and the natural logarithms of their probabilities, `log_probs`.

    prompt: which it continues. given: how many of the prompt's tokens stand before; fewer than it has where its last
    ones and the continuation's first became one token. is_greedy: whether each token is the likeliest behind those
    before it.
    """

    prompt: int
    ids: list[int]
    log_probs: list[float]
    given: int
    is_greedy: bool

    @property
    def log_likelihood(self) -> float:
        """The logarithm of the probability of all tokens together, in nats."""
        return math.fsum(self.log_probs)

    @property
    def mean_log_prob(self) -> float:
        """The same for each token, by which continuations of different lengths are compared."""
        return self.log_likelihood / len(self.ids)

    def to_dict(self) -> dict[str, Any]:
        """The score as JSON-ready values."""
        told = {"log_likelihood": self.log_likelihood, "mean_log_prob": self.mean_log_prob}
        return dataclasses.asdict(self) | told


@dataclass(frozen=True, kw_only=True, eq=False)
class _Row:
    """A continuation to be read: number `at` of all. before: what stands before its ids; source: the first of two
    texts.
    """

    at: int
    prompt: int
    given: int
    before: list[int]
    source: list[int] | None
    ids: list[int]

    @property
    def first(self) -> list[int]:
        """What several continuations of one prompt have in common, and is read once."""
        return self.before if self.source is None else self.source

    @property
    def width(self) -> int:
        return len(self.first) + len(self.ids)


def score_continuations(
    model: Model,
    prompts: Prompts,
    continuations: Continuations,
    *,
    batch_tokens: int | None = None,
    use_cache: bool = True,
    progress: Progress | None = None,
) -> list[list[ContinuationScore]]:
    """The log-likelihood of given continuations of each prompt, or of second texts where the model writes those.

    Returns a list for each prompt. A decoder's continuation has the tokens of the joined text that follow the prompt's:
    where joining turns the prompt's end and the continuation's beginning into one token, that token is the
    continuation's, and fewer of the prompt's stand before it (`ContinuationScore.given`). A second text is read with
    the special tokens of its tokenizer, as in training; a decoder's continuation is not ended by any. What is given as
    token ids is taken as it is.

    Args:
        model: one with the head "causal-lm" or "seq2seq-lm". It is left in the mode that it was in.
        prompts: as `generate` takes them.
        continuations: for each prompt a list of texts, or of lists of token ids; for one prompt its list, or one text.
        batch_tokens: at most so many tokens are read at once, padding included, or one continuation. None: 512 a thread
            on a CPU, 1,024 at least, and 16,384 elsewhere.
        use_cache: a prompt is read once for all of its continuations; False reads it with each. Scores differ by
            rounding.
        progress: called with the tokens of continuations read so far and all of them.

    Raises:
        InputError: a model that writes no text, a continuation without tokens, and what is longer than the model reads.
        GossamerError: scores that are NaN or infinite.
    """
    require_writer(model, "score continuations")
    if batch_tokens is not None:
        require_whole("batch_tokens", batch_tokens, of="tokens", instead="None")
    check_flag("use_cache", use_cache)
    if progress is not None and not callable(progress):
        raise InputError(f"progress is {quote(progress)}; give a function of two counts, done and in all, or None")
    given = read_prompts(model, prompts, None)
    texts = prompt_texts(prompts)
    every = _of_prompts(continuations, len(given), is_one_prompt(prompts))
    rows: list[_Row] = []
    for i, those in enumerate(every):
        rows += [_row(model, len(rows) + j, i, given[i], texts[i], one) for j, one in enumerate(those)]
    for row in rows:
        _check_length(model, row)
    total, done = sum(len(row.ids) for row in rows), 0
    found: dict[int, ContinuationScore] = {}
    with evaluating(model), torch.inference_mode():
        for batch in _batches(rows, tokens_at_once(model, batch_tokens)):
            found |= {row.at: one for row, one in zip(batch, _score(model, batch, use_cache), strict=True)}
            done += sum(len(row.ids) for row in batch)
            if progress is not None:
                progress(done, total)
    scores = [found[i] for i in range(len(rows))]
    return [[one for one in scores if one.prompt == i] for i in range(len(given))]


def _of_prompts(continuations: Any, prompts: int, is_one: bool) -> list[list[str | list[int]]]:
    """A list of continuations for each prompt."""
    listed = [continuations] if is_one else continuations
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise InputError(f"continuations is {quote(continuations)}; give for each prompt a list of texts or token ids")
    if len(listed) != prompts:
        raise InputError(
            f"continuations has {plural(len(listed), 'list')} for {plural(prompts, 'prompt')}; give one for each"
        )
    return [_listed(i, one) for i, one in enumerate(listed)]


def _listed(i: int, those: Any) -> list[str | list[int]]:
    if isinstance(those, str):
        return [those]
    if not isinstance(those, Sequence) or isinstance(those, bytes) or not len(those):
        raise InputError(
            f"continuations of prompt {i} is {quote(those)}; give a list of texts or token ids, one or more"
        )
    for one in those:
        is_ids = isinstance(one, Sequence) and all(type(token) is int for token in one)
        if not isinstance(one, str) and not is_ids:
            raise InputError(f"a continuation of prompt {i} is {quote(one)}; give a text or a list of token ids")
    return [one if isinstance(one, str) else list(one) for one in those]


def _row(model: Model, at: int, prompt: int, given: list[int], text: str | None, one: str | list[int]) -> _Row:
    decoder = model.architecture.decoder
    before, ids = given, one if isinstance(one, list) else []
    if isinstance(one, str):
        if model.tokenizer is None:
            raise InputError("the model has no tokenizer: give continuations as token ids")
        if decoder is not None:
            ids = model.tokenizer.encode_target(one) if one else []
        elif text is None:
            ids = model.tokenizer.encode_plain(one)[0]
        else:
            before, ids = joined_ids(model.tokenizer, text, one, given)
    if not ids:
        raise ItemError(prompt, f"a continuation of prompt {prompt} is {quote(one)}, which has no tokens; leave it out")
    wrong = [token for token in ids if not 0 <= token < len(model.written_words)]
    if wrong:
        raise ItemError(
            prompt,
            f"a continuation of prompt {prompt} holds the token id {wrong[0]}; the vocabulary's ids go from 0 to "
            f"{len(model.written_words) - 1}",
        )
    kept = len(before)
    if decoder is not None:
        return _Row(at=at, prompt=prompt, given=kept, before=[read_start(model, decoder)], source=given, ids=ids)
    if not before:
        # All of the prompt is in the continuation's first token: it begins as an empty prompt does.
        before = end_ids(model)[:1]
        if not before:
            raise ItemError(
                prompt,
                f"prompt {prompt} and its continuation {quote(one)} begin with one token, and no token is known to "
                "stand before it: give a longer prompt",
            )
    elif kept < len(given):
        check_prompt(model, prompt, before)
    return _Row(at=at, prompt=prompt, given=kept, before=before, source=None, ids=ids)


def _check_length(model: Model, row: _Row) -> None:
    """Raise InputError where there is more than the model reads, which is all but the last token."""
    decoder = model.architecture.decoder
    if decoder is None:
        tokens, most = len(row.before) + len(row.ids) - 1, model.architecture.length
        said, reads = f"prompt {row.prompt} of {plural(len(row.before), 'token')} and its continuation", "reads"
    else:
        tokens, most = len(row.ids), decoder.length
        said, reads = f"a continuation of prompt {row.prompt}", "writes"
    if tokens > most:
        said = f"{said} of {plural(len(row.ids), 'token')} are longer than the {most} that the model {reads}"
        raise ItemError(row.prompt, f"{said}: shorten them")


def _batches(rows: Sequence[_Row], batch_tokens: int) -> Iterator[list[_Row]]:
    """Continuations of one prompt together, prompts of like width too, the widest first."""
    batch: list[_Row] = []
    widest = 0
    for row in sorted(rows, key=lambda row: (-len(row.first), row.prompt, -len(row.before), row.at)):
        if batch and (len(batch) + 1) * max(widest, row.width) > batch_tokens:
            yield batch
            batch, widest = [], 0
        batch.append(row)
        widest = max(widest, row.width)
    if batch:
        yield batch


def _score(model: Model, batch: Sequence[_Row], use_cache: bool) -> list[ContinuationScore]:
    body = without_head(model)
    states = _cached_states(body, batch) if use_cache else _whole_states(body, batch)
    lengths = [len(row.ids) for row in batch]
    at = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    tokens = torch.tensor([token for row in batch for token in row.ids], device=states.device)
    log_probs, likeliest = _of_tokens(model, states[at.to(states.device)], tokens)
    told = zip(batch, log_probs.split(lengths), likeliest.split(lengths), strict=True)
    return [
        ContinuationScore(
            prompt=row.prompt, ids=row.ids, log_probs=numbers.tolist(), given=row.given, is_greedy=bool(best.all())
        )
        for row, numbers, best in told
    ]


def _of_tokens(
    model: Model, states: Float[Tensor, "tokens hidden"], tokens: Tensor
) -> tuple[Float[Tensor, "tokens"], Tensor]:
    """The log-probability of the token behind each state, and whether it is the likeliest; few scores at once."""
    rows = max(1, _TILE_SCORES // len(model.written_words))
    log_probs, likeliest = [], []
    for part, wanted in zip(states.split(rows), tokens.split(rows), strict=True):
        scores = checked_scores(model.scores(part)).log_softmax(dim=-1)
        log_probs.append(scores.gather(1, wanted[:, None])[:, 0])
        likeliest.append(scores.argmax(dim=-1) == wanted)
    return torch.cat(log_probs).double().cpu(), torch.cat(likeliest).cpu()


def _cached_states(body: Model, batch: Sequence[_Row]) -> Float[Tensor, "rows longest hidden"]:
    """The state before each token: of a prompt's last token, read once, then of the continuations' own."""
    device = body.embeddings.word.weight.device
    keys = [(row.prompt, len(row.before)) for row in batch]
    firsts = dict(zip(keys, batch, strict=True))
    places = {key: i for i, key in enumerate(firsts)}
    cache = Cache(body.architecture)
    ids, mask = padded([row.before for row in firsts.values()], device)
    if body.decoder is None:
        read = body(ids, attention_mask=mask, cache=cache).last_hidden_state
    else:
        source, real = padded([row.first for row in firsts.values()], device)
        read = body(source, real, decoder_input_ids=ids, cache=cache).last_hidden_state
    ends = torch.tensor([len(row.before) - 1 for row in firsts.values()], device=device)
    chosen = [places[key] for key in keys]
    last = read[torch.arange(len(firsts), device=device), ends][chosen][:, None]
    longest = max(len(row.ids) for row in batch)
    if longest == 1:
        return last
    cache.select(chosen)
    ids, mask = padded([row.ids[:-1] for row in batch], device)
    if body.decoder is None:
        rest = body(ids, attention_mask=mask, cache=cache).last_hidden_state
    else:
        rest = body(decoder_input_ids=ids, decoder_attention_mask=mask, cache=cache).last_hidden_state
    return torch.cat([last, rest], dim=1)


def _whole_states(body: Model, batch: Sequence[_Row]) -> Float[Tensor, "rows longest hidden"]:
    """The same where each continuation is read with all that stands before it."""
    device = body.embeddings.word.weight.device
    ids, mask = padded([[*row.before, *row.ids[:-1]] for row in batch], device)
    if body.decoder is None:
        states = body(ids, attention_mask=mask).last_hidden_state
    else:
        source, real = padded([row.first for row in batch], device)
        states = body(source, real, decoder_input_ids=ids, decoder_attention_mask=mask).last_hidden_state
    parts = [one[len(row.before) - 1 :][: len(row.ids)] for one, row in zip(states, batch, strict=True)]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
