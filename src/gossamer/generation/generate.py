"""Text from a decoder: `gossamer.generate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError, plural, quote
from gossamer.generation.config import unfollowed
from gossamer.generation.inputs import Prompts, Stops, read_prompts, read_seeds, read_stops
from gossamer.generation.loop import Piece, Row, Stopped, continue_rows
from gossamer.generation.sampling import Sampling
from gossamer.generation.stream import TextStream
from gossamer.models.heads import CausalLM, Seq2SeqLM
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model

__all__ = ["Generated", "Generation", "generate"]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The continuations of all prompts, in order.

    texts: without the prompt, on which they follow as they are, and without what stopped them; None where the model has
    no tokenizer. ids: all new tokens, a stop token too. tokens: how long each prompt is. stopped: why each ended:
    "stop" (`stop` says at which token or string), "max_new_tokens", or "length", all that the model can read. seeds:
    what each was drawn with. seconds: of reading the prompts and of generating. notes: remarks, a line each.
    """

    texts: list[str] | None
    ids: list[list[int]]
    tokens: list[int]
    stopped: list[Stopped]
    stop: list[int | str | None]
    seeds: list[int]
    seconds: float
    notes: list[str]

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all prompts for each second."""
        return sum(map(len, self.ids)) / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready values."""
        return dataclasses.asdict(self) | {"tokens_per_second": self.tokens_per_second}


class Generation(Iterator[Piece]):
    """A generation under way: an iterator that yields a `Piece` whenever there is something new."""

    def __init__(
        self, pieces: Iterator[Piece], rows: Sequence[Row], seeds: list[int], clock: list[float], notes: list[str]
    ) -> None:
        self._pieces, self._rows, self._seeds, self._clock, self._notes = pieces, rows, seeds, clock, notes

    def __next__(self) -> Piece:
        return next(self._pieces)

    @property
    def result(self) -> Generated:
        """All of it. Raises InputError before the last piece was taken."""
        if any(one.stopped is None for one in self._rows):
            raise InputError("the texts are still being generated: take all pieces, then ask for the result")
        return _result(self._rows, self._seeds, sum(self._clock), self._notes)


@overload
def generate(
    model: Model, prompts: Prompts, *, max_new_tokens: int = ..., temperature: float = ..., top_k: int | None = ...,
    top_p: float = ..., stop: Stops = ..., ignore_end: bool = ..., seed: int | Sequence[int] | None = ...,
    stream: Callable[[Piece], object] | None = ..., attention_mask: Tensor | None = ..., batch_size: int = ...,
    use_cache: bool = ...,
) -> Generated: ...  # fmt: skip
@overload
def generate(
    model: Model, prompts: Prompts, *, max_new_tokens: int = ..., temperature: float = ..., top_k: int | None = ...,
    top_p: float = ..., stop: Stops = ..., ignore_end: bool = ..., seed: int | Sequence[int] | None = ...,
    stream: Literal[True], attention_mask: Tensor | None = ..., batch_size: int = ..., use_cache: bool = ...,
) -> Generation: ...  # fmt: skip
def generate(
    model: Model,
    prompts: Prompts,
    *,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 0.95,
    stop: Stops = None,
    ignore_end: bool = False,
    seed: int | Sequence[int] | None = None,
    stream: Callable[[Piece], object] | Literal[True] | None = None,
    attention_mask: Tensor | None = None,
    batch_size: int = 16,
    use_cache: bool = True,
) -> Generated | Generation:
    """Continue prompts with a decoder, or write a second text to each with an encoder and decoder.

    Args:
        model: one with the head "causal-lm" or "seq2seq-lm". It is left in the mode that it was in.
        prompts: a text or texts; or token ids: a list, a list of lists, a tensor [length] or [batch, length]. An empty
            text begins with the token that ends texts. Special tokens are added to what an encoder reads alone.
        max_new_tokens: for each prompt.
        temperature, top_k, top_p: as in `Sampling`, in this order; `temperature=0` is greedy. The defaults draw from
            the nucleus, as Holtzman et al. (2020) advise: greedy texts repeat themselves, texts drawn from all tokens
            go astray.
        stop: token ids and strings that end a text. `eos_token_id` of generation_config.json, else of config.json, does
            so too, unless `ignore_end`; what else the former asks for is not followed, but noted in the result.
        seed: each prompt draws from a generator of its own, whatever stands beside it in the batch. A number gives
            prompt i the seed `seed + i`, a list gives each its own, None draws such a number from torch's generator.
        stream: a function that is called with each `Piece`; or True, which returns an iterator of them.
        attention_mask: 1 or True for the real tokens of a tensor of prompts, which may be padded on either side.
        batch_size: how many prompts are continued at once; one that ends leaves the batch.
        use_cache: False reads the whole text again for every token: slow, for comparison. Scores differ by rounding
            alone: the tokens are the same but for near ties, which are rare in float64 and float32, not in half.

    Raises:
        InputError: an option, a prompt that is empty or longer than the model reads, or a model that is no decoder.
        GossamerError: scores that are NaN or infinite.
    """
    _require_decoder(model)
    require_whole("max_new_tokens", max_new_tokens)
    require_whole("batch_size", batch_size)
    if not isinstance(use_cache, bool):
        raise InputError(f"use_cache is {quote(use_cache)}; it must be True or False")
    if stream is not None and stream is not True and not callable(stream):
        raise InputError(f"stream is {quote(stream)}; it must be a function of one Piece, True, or None")
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    stops = read_stops(model, stop, ignore_end)
    given = read_prompts(model, prompts, attention_mask)
    seeds = read_seeds(seed, len(given))
    rows = [_row(model, i, one, max_new_tokens, stops, seeds[i]) for i, one in enumerate(given)]
    notes = unfollowed(model.generation_config, {"max_new_tokens": max_new_tokens, **vars(sampling)})
    running = _start(model, rows, sampling, batch_size, use_cache, seeds, notes)
    if stream is True:
        return running
    for piece in running:
        if stream is not None:
            stream(piece)
    return running.result


def _start(
    model: Model,
    rows: Sequence[Row],
    sampling: Sampling,
    batch_size: int,
    use_cache: bool,
    seeds: list[int],
    notes: list[str],
) -> Generation:
    clock: list[float] = []
    pieces = _run(model, rows, sampling, batch_size, use_cache, clock)
    return Generation(pieces, rows, seeds, clock, notes)


def _run(
    model: Model, rows: Sequence[Row], sampling: Sampling, batch_size: int, use_cache: bool, clock: list[float]
) -> Iterator[Piece]:
    for first in range(0, len(rows), batch_size):
        yield from continue_rows(model, rows[first : first + batch_size], sampling, use_cache, clock)


def _require_decoder(model: Model) -> None:
    check_model(model)
    head = model.architecture.head
    if not isinstance(head, CausalLM | Seq2SeqLM):
        has = "model has no head" if head is None else f"model's head is {head.kind!r}"
        raise InputError(
            f"the {has}, so it cannot generate text: take a model with the head 'causal-lm' or 'seq2seq-lm'"
        )


def _row(model: Model, i: int, given: list[int], most: int, stops: tuple[set[int], list[str]], seed: int) -> Row:
    decoder = model.architecture.decoder
    begun = given if decoder is None else [decoder.start_id]
    length = model.architecture.length if decoder is None else decoder.length
    context = given if decoder is None else []
    return Row(
        prompt=i,
        given=begun,
        source=None if decoder is None else given,
        most=most,
        room=length - len(begun),
        stop_ids=stops[0],
        generator=torch.Generator().manual_seed(seed),
        text=None if model.tokenizer is None else TextStream(model.tokenizer, context, stops[1]),
    )


def _result(rows: Sequence[Row], seeds: list[int], seconds: float, notes: list[str]) -> Generated:
    stopped_early = [
        f"prompt {one.prompt} of {plural(one.tokens, 'token')}: stopped after {plural(len(one.ids), 'new one')}, "
        f"because the model {'reads' if one.source is None else 'writes'} {len(one.given) + one.room}"
        for one in rows
        if one.stopped == "length"
    ]
    texts = [one.text.text for one in rows if one.text is not None]
    return Generated(
        texts=texts if len(texts) == len(rows) else None,
        ids=[one.ids for one in rows],
        tokens=[one.tokens for one in rows],
        stopped=[cast(Stopped, one.stopped) for one in rows],
        stop=[one.stop for one in rows],
        seeds=seeds,
        seconds=seconds,
        notes=[*notes, *stopped_early],
    )
