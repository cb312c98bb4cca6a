"""What the tasks share that write a text about another, of any length, with an encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gossamer.checks import require_whole
from gossamer.errors import InputError, ItemError, quote
from gossamer.generation import Generated, Piece, generate
from gossamer.models.heads import Seq2SeqLM
from gossamer.tasks.base import Long, Result, Task, check_text, of_the_call
from gossamer.tasks.parts import TextPart, cut_text
from gossamer.tasks.passes import Progress, check_progress, check_stride
from gossamer.tasks.stream import Streaming, seeds_for
from gossamer.text.sentences import sentence_starts

__all__ = ["Writing", "WritingOptions", "WritingTask", "Written", "joined", "of_file"]

_MARGIN = 8
"""Tokens by which a text that stands alone may be more than where another stands before it."""


@dataclass(frozen=True, kw_only=True)
class Written(Result):
    """The text that was written about each text.

    `tokens` and `passes` are, for each, how long it is and in how many parts it was read; `new_tokens` how many were
    written; `notes` are remarks, a line each.
    """

    texts: list[str]
    tokens: list[int]
    passes: list[int]
    new_tokens: list[int]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class WritingOptions:
    """How texts are read and written.

    how: what is said of a text that is read in parts. prefix: put before each text or part. generation: what else
    `gossamer.generate` takes. long: a text longer than the model reads at once, `max_length` tokens in place of its
    files' limit, is read in parts ("chunk"), cut ("truncate") or refused ("error"). stride: tokens of whole sentences
    that parts share at most. by_sentence: each sentence is a part. batch_size: parts at once.
    """

    how: str
    prefix: str = ""
    generation: Mapping[str, Any] = field(default_factory=dict)
    long: Long = "chunk"
    max_length: int | None = None
    stride: int = 0
    by_sentence: bool = False
    batch_size: int = 16


@dataclass
class Writing:
    """A text: its parts, the tokens that the model reads of each, and what it wrote about each."""

    number: int
    text: str
    tokens: int
    parts: list[TextPart]
    prompts: list[list[int]]
    written: list[str | None]
    new_tokens: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """What was written about the parts."""
        return [text or "" for text in self.written]


class WritingTask(Streaming[Written], Task):
    """Write a text about each text with an encoder and decoder. Raises InputError for other models."""

    heads, load_with = (Seq2SeqLM,), "seq2seq-lm"

    def _write(
        self,
        texts: Sequence[object],
        options: WritingOptions,
        progress: Progress | None,
        numbers: Sequence[int] | None = None,
    ) -> list[Writing]:
        """What is written about each text, part by part. numbers: of the texts in what is said of them."""
        self._check_options(options, progress)
        numbered = enumerate(texts) if numbers is None else zip(numbers, texts, strict=True)
        writings = [self._read(i, text, options) for i, text in numbered]
        # Parts of like length together, the longest first, so that little is padded.
        places = [(writing, place) for writing in writings for place in range(len(writing.prompts))]
        places.sort(key=lambda one: -len(one[0].prompts[one[1]]))
        seeds = seeds_for(options.generation.get("seed"), [writing.number for writing, _ in places])
        prompts = [writing.prompts[place] for writing, place in places]
        try:
            generated = self._generate(prompts, seeds, options, progress)
        except ItemError as problem:
            number = places[problem.item][0].number
            said = str(problem).replace(f"prompt {problem.item}", f"text {number}", 1)
            raise ItemError(number, said) from None
        for which, text, ids in zip(generated.prompts, generated.texts or [], generated.ids, strict=True):
            writing, place = places[which]
            if writing.written[place] is None:  # of several texts the best comes first
                writing.written[place] = text
                writing.new_tokens += len(ids)
        return writings

    def _check_options(self, options: WritingOptions, progress: object) -> None:
        """Refuse what cannot be, before anything is computed."""
        check_progress(progress)
        if not isinstance(options.by_sentence, bool):
            raise InputError(f"by_sentence is {quote(options.by_sentence)}; it must be True or False")
        require_whole("stride", options.stride, 0, of="tokens")
        several = _returned(options.generation.get("beams"))
        if several != 1:
            raise InputError(
                f"num_return_sequences is {quote(several)}; to {self.doing} is to write one text for each: the task "
                "generate gives several"
            )
        self._check(options.long, 1, options.max_length)
        if not isinstance(options.prefix, str):
            kind = type(options.prefix).__name__
            raise InputError(f"prefix is {quote(options.prefix)}, a {kind}; it must be a string")
        with of_the_call():
            check_text("prefix", 0, options.prefix)
        room = self._room(options)
        if room < 1:
            raise InputError(
                f"the prefix {quote(options.prefix)} leaves no room for texts, as the model reads "
                f"{self.model.reading_length(options.max_length)} tokens: give a shorter one"
            )
        check_stride(options.stride, max(1, room - _MARGIN))

    def _room(self, options: WritingOptions) -> int:
        """Tokens of a text that are read at once, behind the prefix."""
        most = self.model.reading_length(options.max_length)
        return most - len(self.frame) - len(self.tokenizer.encode_plain(options.prefix)[0])

    def _read(self, i: int, text: object, options: WritingOptions) -> Writing:
        """A text, whole or in parts, as the model reads it."""
        ids, offsets = self._tokenize("text", i, text)
        text = str(text)
        parts, notes = ([], []) if options.by_sentence else self._parts(i, text, offsets, options)
        for sentence in _sentences(text) if options.by_sentence else ():
            said = text[sentence.start : sentence.end]
            of_sentence, more = self._parts(i, said, self.tokenizer.encode_plain(said)[1], options, " in one sentence")
            parts += [part.shifted(sentence.start) for part in of_sentence]
            notes += more
        prompts = [self._prompt(text[part.start : part.end], options) for part in parts]
        return Writing(
            number=i, text=text, tokens=len(ids), parts=parts, prompts=prompts, written=[None] * len(parts), notes=notes
        )

    def _parts(
        self, i: int, text: str, offsets: Sequence[tuple[int, int]], options: WritingOptions, where: str = ""
    ) -> tuple[list[TextPart], list[str]]:
        """A text or a sentence as it is read, and what is said of one that is too long."""
        room, most = self._room(options), self._most(options)
        around = most - room
        said = self._say_long(i, len(offsets) + around, options.long, most, around, where, options.how)
        if said is None:
            return [TextPart(0, 0, len(text))], []
        if options.long == "truncate":
            return [TextPart(0, 0, offsets[room - 1][1])], [said]
        return cut_text(text, offsets, max(1, room - _MARGIN), options.stride), [said]

    def _prompt(self, part: str, options: WritingOptions) -> list[int]:
        """The tokens of a part behind the prefix, in the frame of special tokens; not more than the model reads."""
        ids = self.tokenizer.encode_plain(options.prefix + part)[0]
        return [*self.frame.before, *ids[: self._most(options) - len(self.frame)], *self.frame.after]

    def _generate(
        self, prompts: Sequence[list[int]], seeds: Any, options: WritingOptions, progress: Progress | None
    ) -> Generated:
        return generate(
            self.model, prompts, **{**options.generation, "seed": seeds}, batch_size=options.batch_size,
            stream=None if progress is None else _counting(progress, prompts),
        )  # fmt: skip

    def _on_items(self, items: Sequence[Any], numbers: Sequence[int], **options: Any) -> Written:
        """Each with the seed that it would have in one call."""
        return self(items, seed=seeds_for(options.pop("seed", None), numbers), **options)

    def _result(self, writings: Sequence[Writing], options: WritingOptions, texts: Sequence[str]) -> Written:
        """With what the parts' texts became."""
        return Written(
            texts=list(texts),
            tokens=[one.tokens for one in writings],
            passes=[len(one.parts) for one in writings],
            new_tokens=[one.new_tokens for one in writings],
            notes=[*self._say_longer(options.max_length), *(note for one in writings for note in one.notes)],
        )

    def _most(self, options: WritingOptions) -> int:
        return self.model.reading_length(options.max_length)


def joined(writing: Writing) -> str:
    """What was written about the parts, between the white space that stood between them."""
    texts = []
    for part, written in zip(writing.parts, writing.texts, strict=True):
        of_part = writing.text[part.new : part.end]
        texts.append(written.strip() + of_part[len(of_part.rstrip()) :] if len(writing.parts) > 1 else written)
    return "".join(texts).rstrip() if len(writing.parts) > 1 else texts[0]


def of_file(asked: Mapping[str, Any], changes: object) -> Any:
    """Settings of a model's files for a task under those of the call, which may be the whole of them, or a number."""
    if changes is None:
        return dict(asked) or None
    if isinstance(changes, Mapping):
        return {**asked, **changes}
    return {**asked, "num_beams": changes} if type(changes) is int else changes


def _sentences(text: str) -> list[TextPart]:
    starts = sentence_starts(text)
    return [TextPart(start, start, end) for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def _returned(beams: object) -> object:
    """How many texts of each a call asks for."""
    if isinstance(beams, Mapping):
        return beams.get("num_return_sequences", 1)
    return getattr(beams, "num_return_sequences", 1)


def _counting(progress: Progress, prompts: Sequence[list[int]]) -> Callable[[Piece], None]:
    """Counts the tokens of the texts that have begun to be written."""
    seen: set[int] = set()
    done, total = 0, sum(map(len, prompts))

    def count(piece: Piece) -> None:
        nonlocal done
        if piece.prompt not in seen:
            seen.add(piece.prompt)
            done += len(prompts[piece.prompt])
            progress(done, total)

    return count
