"""Text from a decoder: `gossamer.generate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError, plural
from gossamer.generation.beams import Beams, Search, search_beams
from gossamer.generation.choices import Choices, TokenTrie, check_choices, read_choices
from gossamer.generation.inputs import (
    Prompts,
    Stops,
    check_flag,
    check_stream,
    prompt_texts,
    read_prompts,
    read_seeds,
    read_stops,
)
from gossamer.generation.loop import Piece, Row, Stopped, continue_rows
from gossamer.generation.options import BeamsAsked, Options, RulesAsked, read_options, read_start
from gossamer.generation.stream import TextStream
from gossamer.models.heads import CausalLM, Seq2SeqLM
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.numbered_notes import notes_of

__all__ = ["Generated", "Generation", "generate", "require_writer"]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The continuations of all prompts, in order.

    texts: without the prompt, on which they follow as they are, and without what stopped them; None where the model has
    no tokenizer. ids: all new tokens, a stop token too. tokens: how long each prompt is. stopped: why each ended:
    "stop" (`stop` says at which token or string), "max_new_tokens", or "length", all that the model can read. seeds:
    what each was drawn with, if anything was `drawn`. seconds: of reading the prompts and of generating. notes:
    remarks, a line each. prompts: which prompt each is of; scores: of beams, which may give several a prompt, best
    first.
    """

    texts: list[str] | None
    ids: list[list[int]]
    tokens: list[int]
    stopped: list[Stopped]
    stop: list[int | str | None]
    seeds: list[int]
    seconds: float
    notes: list[str]
    drawn: bool
    prompts: list[int]
    scores: list[float] | None = None

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all prompts for each second."""
        return sum(map(len, self.ids)) / max(self.seconds, 1e-9)

    def part(self, i: int) -> Generated:
        """The continuations of prompt number i alone, which is prompt 0 of them."""
        places = [place for place, prompt in enumerate(self.prompts) if prompt == i]
        lists: dict[str, Any] = {
            field.name: [value[place] for place in places]
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), list) and field.name != "notes"
        }
        return dataclasses.replace(self, **lists | {"prompts": [0] * len(places)}, notes=notes_of(self.notes, i))

    def with_notes(self, notes: list[str]) -> Generated:
        """The same with other notes."""
        return dataclasses.replace(self, notes=notes)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready values."""
        return dataclasses.asdict(self) | {"tokens_per_second": self.tokens_per_second}


class Generation(Iterator[Piece]):
    """A generation under way: an iterator that yields a `Piece` whenever there is something new."""

    def __init__(self, pieces: Iterator[Piece], finished: Callable[[], Generated | None], most: int) -> None:
        self._pieces, self._finished = pieces, finished
        self.most = most
        """New tokens of all prompts at most."""

    def __next__(self) -> Piece:
        return next(self._pieces)

    @property
    def result(self) -> Generated:
        """All of it. Raises InputError before the last piece was taken."""
        found = self._finished()
        if found is None:
            raise InputError("the texts are still being generated: take all pieces, then ask for the result")
        return found


@overload
def generate(
    model: Model, prompts: Prompts, *, max_new_tokens: int | None = ..., temperature: float | None = ...,
    top_k: int | None = ..., top_p: float | None = ..., stop: Stops = ..., ignore_end: bool = ...,
    seed: int | Sequence[int] | None = ..., stream: Callable[[Piece], object] | None = ...,
    attention_mask: Tensor | None = ..., batch_size: int = ..., use_cache: bool = ..., beams: BeamsAsked = ...,
    rules: RulesAsked = ..., choices: Choices = ...,
) -> Generated: ...  # fmt: skip
@overload
def generate(
    model: Model, prompts: Prompts, *, max_new_tokens: int | None = ..., temperature: float | None = ...,
    top_k: int | None = ..., top_p: float | None = ..., stop: Stops = ..., ignore_end: bool = ...,
    seed: int | Sequence[int] | None = ..., stream: Literal[True], attention_mask: Tensor | None = ...,
    batch_size: int = ..., use_cache: bool = ..., beams: BeamsAsked = ..., rules: RulesAsked = ...,
    choices: Choices = ...,
) -> Generation: ...  # fmt: skip
def generate(
    model: Model, prompts: Prompts, *, max_new_tokens: int | None = None, temperature: float | None = None,
    top_k: int | None = None, top_p: float | None = None, stop: Stops = None, ignore_end: bool = False,
    seed: int | Sequence[int] | None = None, stream: Callable[[Piece], object] | Literal[True] | None = None,
    attention_mask: Tensor | None = None, batch_size: int = 16, use_cache: bool = True,
    beams: BeamsAsked = None, rules: RulesAsked = None, choices: Choices = None,
) -> Generated | Generation:  # fmt: skip
    """Continue prompts with a decoder, or write a second text to each with an encoder and decoder.

    What the call leaves out is as generation_config.json has it, else as is usual; what that asks for and is not done
    is noted in the result.

    Args:
        model: one with the head "causal-lm" or "seq2seq-lm". It is left in the mode that it was in.
        prompts: a text or texts; or token ids: a list, a list of lists, a tensor [length] or [batch, length]. An empty
            text begins with the token that ends texts. Special tokens are added to what an encoder reads alone.
        max_new_tokens: for each prompt; usually 128.
        temperature, top_k, top_p: as in `Sampling`, in this order; `temperature=0` is greedy, as is usual for two texts
            and beams. Usual for a decoder is 1 and the nucleus of 0.95, as Holtzman et al. (2020) advise: greedy texts
            repeat themselves, texts drawn from all tokens go astray.
        stop: token ids and strings that end a text. `eos_token_id` of generation_config.json, else of config.json, does
            so too, and its `stop_strings` do where no stop is given, unless `ignore_end`.
        seed: each prompt draws from a generator of its own, whatever stands beside it in the batch. A number gives
            prompt i the seed `seed + i`, a list gives each its own, None draws such a number from torch's generator.
        stream: a function that is called with each `Piece`; or True, which returns an iterator of them.
        attention_mask: 1 or True for the real tokens of a tensor of prompts, which may be padded on either side.
        batch_size: how many prompts are continued at once; one that ends leaves the batch.
        use_cache: False reads the whole text again for every token: slow, for comparison. Scores differ by rounding.
        beams: their number, or `Beams`: beam search. rules: see `Rules`. A mapping changes some of the file's settings.
        choices: texts, or lists of token ids, one of which is written and nothing besides.

    Raises:
        InputError: an option, a prompt that is empty or longer than the model reads, or a model that is no decoder.
        GossamerError: scores that are NaN or infinite.
    """
    require_writer(model, "generate text")
    require_whole("batch_size", batch_size)
    check_flag("use_cache", use_cache)
    check_stream(stream)
    stops = read_stops(model, stop, ignore_end)
    options = read_options(
        model, max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, beams=beams,
        rules=rules, stop_strings=stops[1],
    )  # fmt: skip
    given = _read_prompts(model, prompts, attention_mask, choices, options, stops)
    running = _start(model, given, options, stops, batch_size, use_cache, read_seeds(seed, len(given)))
    if stream is True:
        return running
    for piece in running:
        if stream is not None:
            stream(piece)
    return running.result


@dataclass(frozen=True, kw_only=True)
class _Prompt:
    """The tokens of a prompt, and what alone may be written behind it."""

    ids: list[int]
    choices: TokenTrie | None


def _read_prompts(
    model: Model, prompts: Prompts, attention_mask: Tensor | None, choices: Choices, options: Options,
    stops: tuple[set[int], list[str]],
) -> list[_Prompt]:  # fmt: skip
    check_choices(choices, stops[1])
    given = read_prompts(model, prompts, attention_mask)
    return [
        _Prompt(
            ids=ids,
            choices=read_choices(model, choices, text, ids, options.rules, stops[0], _most(model, ids, options)),
        )
        for text, ids in zip(prompt_texts(prompts), given, strict=True)
    ]


def _most(model: Model, given: list[int], options: Options) -> int:
    """New tokens at most behind a prompt: the model reads all but the last."""
    return min(options.max_new_tokens, _begin(model, given)[2] + 1)


def _start(
    model: Model, given: Sequence[_Prompt], options: Options, stops: tuple[set[int], list[str]], batch_size: int,
    use_cache: bool, seeds: list[int],
) -> Generation:  # fmt: skip
    if options.beams is not None:
        found: list[Generated] = []
        run = partial(_search, model, given, options, options.beams, stops, batch_size, use_cache, seeds)
        most = len(given) * options.most_tokens
        return Generation(_pieces(run, found), lambda: found[0] if found else None, most)
    rows = [_row(model, i, one, options.max_new_tokens, stops, seeds[i]) for i, one in enumerate(given)]
    clock: list[float] = []

    def finished() -> Generated | None:
        going = any(one.stopped is None for one in rows)
        return None if going else _result(model, rows, seeds, sum(clock), options)

    pieces = _run(model, rows, options, batch_size, use_cache, clock)
    return Generation(pieces, finished, len(given) * options.most_tokens)


def _pieces(search: Callable[[], Generated], found: list[Generated]) -> Iterator[Piece]:
    """Each whole text, when the search is over: before, nobody knows which it will be."""
    found.append(search())
    texts = found[0].texts or [""] * len(found[0].ids)
    for prompt, text, ids in zip(found[0].prompts, texts, found[0].ids, strict=True):
        yield Piece(prompt=prompt, text=text, ids=tuple(ids))


def _run(
    model: Model, rows: Sequence[Row], options: Options, batch_size: int, use_cache: bool, clock: list[float]
) -> Iterator[Piece]:
    for first in range(0, len(rows), batch_size):
        part = rows[first : first + batch_size]
        yield from continue_rows(model, part, options.sampling, options.rules, use_cache, clock)


def _search(
    model: Model,
    given: Sequence[_Prompt],
    options: Options,
    beams: Beams,
    stops: tuple[set[int], list[str]],
    batch_size: int,
    use_cache: bool,
    seeds: list[int],
) -> Generated:
    """The best texts of each prompt, best first, those of one prompt together."""
    searches = [_beam_search(model, one, options, stops) for one in given]
    batches = [searches[first : first + batch_size] for first in range(0, len(searches), batch_size)]
    seconds = sum(search_beams(model, batch, beams, options.rules, use_cache) for batch in batches)
    found = [(i, one) for i, search in enumerate(searches) for one in search.result(beams)]
    is_whole = [search.most == options.max_new_tokens for search in searches]
    stopped: list[Stopped] = [
        "stop" if one.stop is not None else "max_new_tokens" if is_whole[i] else "length" for i, one in found
    ]
    ends = [(i, one) for (i, one), why in zip(found, stopped, strict=True) if why == "length"]
    notes = [_ended_early(model, i, len(given[i].ids), len(one.ids)) for i, one in ends]
    notes += [note for i, search in enumerate(searches) for note in _say_fewer(i, len(search.result(beams)), beams)]
    return Generated(
        texts=None if model.tokenizer is None else [searches[i].read(one.ids).text for i, one in found],
        ids=[one.ids for _, one in found],
        tokens=[len(given[i].ids) for i, _ in found],
        stopped=stopped,
        stop=[one.stop for _, one in found],
        seeds=[seeds[i] for i, _ in found],
        seconds=seconds,
        notes=[*options.notes, *notes],
        drawn=False,
        prompts=[i for i, _ in found],
        scores=[one.score for _, one in found],
    )


def _beam_search(model: Model, prompt: _Prompt, options: Options, stops: tuple[set[int], list[str]]) -> Search:
    begun, source, _ = _begin(model, prompt.ids)
    return Search(
        given=begun, source=source, most=_most(model, prompt.ids, options), ends=frozenset(stops[0]),
        stop_strings=stops[1], tokenizer=model.tokenizer, choices=prompt.choices,
    )  # fmt: skip


def _say_fewer(prompt: int, found: int, beams: Beams) -> list[str]:
    """What is said where rules or choices allow fewer texts than were asked for."""
    wanted = beams.num_return_sequences
    return [f"prompt {prompt}: {plural(found, 'text')} of {wanted}, no more may be written"] if found < wanted else []


def require_writer(model: Model, doing: str) -> None:
    """Raise InputError for what is no model, or has no head that scores the next token, which `doing` so takes."""
    check_model(model)
    head = model.architecture.head
    if not isinstance(head, CausalLM | Seq2SeqLM):
        has = "model has no head" if head is None else f"model's head is {head.kind!r}"
        raise InputError(f"the {has}, so it cannot {doing}: take a model with the head 'causal-lm' or 'seq2seq-lm'")


def _row(model: Model, i: int, prompt: _Prompt, most: int, stops: tuple[set[int], list[str]], seed: int) -> Row:
    begun, source, room = _begin(model, prompt.ids)
    context = prompt.ids if source is None else []
    return Row(
        prompt=i,
        given=begun,
        source=source,
        most=most,
        room=room,
        stop_ids=stops[0],
        generator=torch.Generator().manual_seed(seed),
        text=None if model.tokenizer is None else TextStream(model.tokenizer, context, stops[1]),
        choices=prompt.choices,
    )


def _begin(model: Model, given: list[int]) -> tuple[list[int], list[int] | None, int]:
    """What stands before the new tokens, the first of two texts, and how many new ones the model's length leaves."""
    decoder = model.architecture.decoder
    if decoder is None:
        return given, None, model.architecture.length - len(given)
    return [read_start(model, decoder)], given, decoder.length - 1


def _ended_early(model: Model, prompt: int, tokens: int, new: int) -> str:
    """What is said where the model's length ended a text."""
    decoder = model.architecture.decoder
    reads = f"reads {model.architecture.length}" if decoder is None else f"writes {decoder.length}"
    ended = f"stopped after {plural(new, 'new one')}, because the model {reads}"
    return f"prompt {prompt} of {plural(tokens, 'token')}: {ended}"


def _result(model: Model, rows: Sequence[Row], seeds: list[int], seconds: float, options: Options) -> Generated:
    stopped_early = [
        _ended_early(model, one.prompt, one.tokens, len(one.ids)) for one in rows if one.stopped == "length"
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
        notes=[*options.notes, *stopped_early],
        drawn=options.sampling.temperature > 0,
        prompts=[one.prompt for one in rows],
    )
