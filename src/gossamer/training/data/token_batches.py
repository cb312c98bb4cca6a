"""What each step of training reads: a pure function of the seed and the step."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError
from gossamer.models.checks import MOST_ROWS, require, require_choice, require_count, require_flag
from gossamer.text import Split, TokenFile, Tokenizer, read_documents, tokenize
from gossamer.training.data.held_out import HeldOutBy, hold_out
from gossamer.training.data.orders import Grouped
from gossamer.training.data.packing import Corpus, Frame, Line, Rows, Stream, Windows
from gossamer.training.data.segment_pairs import PairFrame, SegmentPairs
from gossamer.training.data.sentences import SentenceMarks
from gossamer.training.objectives import IGNORED, CausalObjective, LanguageObjective
from gossamer.training.objectives.texts.language import Labeller

__all__ = ["Batches", "HeldOutBy", "open_tokens"]

_TRAINING, _HELD_OUT, _EVERY_ROW = 2, 3, 4  # what is masked


@dataclass(frozen=True, kw_only=True, eq=False)
class Batches:
    """The batches of a training, and of what is held out from it.

    file, tokenizer: the tokens, and what they were made with. length: tokens of a row. batch: rows of a step, those of
    all processes together; process `rank` of `world` gets every world-th one. tokens: instead of `batch`, where rows
    are not packed, as many rows of about one length as that many tokens hold, padded to the longest of them. pack: rows
    hold several documents and no padding; else each holds one document, or a part of one. held_out: so many documents,
    or that share of them, are kept for `evaluation`: those with the smallest hashes of their numbers, whatever the
    seed, or the "last" ones. held_out_file: is evaluated instead. vocabulary_size: of the model.

    token_types: of the model, which is given none where it has fewer than two. An objective whose frame is of pairs
    reads two segments of documents in each row (`SegmentPairs`).

    A causal language model reads each document between two end tokens, a masked one what its tokenizer puts around a
    text, around each piece too where a document is cut. Documents and rows come in a new order each epoch; the row in
    which an epoch ends goes on with the next one. Raises InputError for values that do not fit each other or the data.
    """

    file: TokenFile
    tokenizer: Tokenizer
    objective: LanguageObjective = CausalObjective()  # noqa: RUF009 - it is frozen
    length: int = 512
    batch: int = 8
    tokens: int | None = None
    seed: int = 0
    pack: bool = True
    held_out: int | float = 0
    held_out_by: HeldOutBy = "hash"
    held_out_file: TokenFile | None = None
    vocabulary_size: int | None = None
    token_types: int = 2
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        require_count(self, "length", "batch", "world", most=MOST_ROWS)
        require_count(self, "rank", least=0, most=self.world - 1)
        require(
            type(self.seed) is int and 0 <= self.seed < 2**63, "seed", self.seed, "a whole number from 0 below 2**63"
        )
        require(self.batch % self.world == 0, "batch", self.batch, f"a multiple of the {self.world} processes")
        require_flag(self, "pack")
        require(self.tokens is None or not self.pack, "tokens", self.tokens, "left out where rows are packed")
        require_choice(self, HeldOutBy, "held_out_by")
        self._check_files()
        of_pairs = isinstance(self._frame, PairFrame)
        require(self.pack or not of_pairs, "pack", self.pack, "left out: two segments fill a row")
        _ = self._labeller  # which refuses what does not fit, as the groups do
        least = len(self._frame) + self.objective.overlap + 1
        require(self.length >= least, "length", self.length, f"at least {least}, special tokens and one to predict")
        _ = self._groups
        rows = self.rows_per_epoch
        if self.tokens is None and rows < self.batch:
            raise InputError(
                f"the data have {self._training.corpus.total:,} tokens, or {rows:.1f} rows of {self.length:,}, "
                f"but a step takes {self.batch:,}; give more text, a smaller batch or a shorter length"
            )

    def at(self, step: int) -> dict[str, Tensor]:
        """This process's rows of a step, from 0: each int64 [batch / world, length]; with `tokens` [rows, length].

        `input_ids`; `labels`, -100 where nothing is learnt, so at the first token of each document; `segments`, the
        documents within each row; `attention_mask` where there is padding. Of pairs of segments `token_type_ids` and
        `pair_labels` [rows] stand in place of `segments`.
        """
        rows, fills_up = self._rows(step)
        places = self.rank + self.world * np.arange(len(rows.ids))
        batch = self._tensors(rows, [(_TRAINING, self.seed, step, int(i)) for i in places])
        if fills_up:
            batch["labels"].fill_(IGNORED)
        if self.tokens is None:
            return batch
        longest = int(rows.real.sum(axis=1).max())
        return {name: one[:, :longest].contiguous() for name, one in batch.items()}

    def ids(self, step: int) -> list[str]:
        """Where the documents in this process's rows of a step came from, each once."""
        documents = self._rows(step)[0].document
        return [self.file.name_of(i) for i in dict.fromkeys(documents[documents >= 0].tolist())]

    def evaluation(self) -> Iterator[dict[str, Tensor]]:
        """Batches like those of training that cover what is held out once, in order; the last may have fewer rows.

        `bytes`, an int beside the tensors, counts the UTF-8 bytes that this process's rows cover: of the tokens that
        are predicted, or for masked models of all; with end tokens around documents that is every byte. Rows of a
        causal model overlap by one token, so that each is predicted once. Every process gets equally many batches,
        with a row or more; rows that only fill up have no labels. What is masked does not depend on the seed. Raises
        InputError where nothing is held out.
        """
        if self._held is None:
            raise InputError("held_out is 0; hold documents out, or give a held_out_file, to evaluate")
        return self._evaluate(self.held_out_file or self.file, self._held)

    def every_row(self, steps: int | None, held_out: bool) -> Iterator[dict[str, Tensor]]:
        """Rows of one document each are the same in every epoch; packed ones are cut anew, so steps tell them.

        What is masked is that of no step.
        """
        layout = self._training
        if isinstance(layout, Stream):
            if steps is None:
                raise InputError(
                    "packed rows are cut anew in each epoch; to know all of them give steps or epochs, or data.pack: "
                    "false"
                )
            yield from (self._any_masks(layout.rows(at)) for at in self._spans(steps * self.batch))
        else:
            yield from (self._any_masks(layout.in_order(at)) for at in self._spans(layout.count))
        if held_out and self._held is not None:
            yield from (self._any_masks(self._held.in_order(at)) for at in self._spans(self._held.count))

    def _spans(self, count: int) -> Iterator[np.ndarray]:
        return (np.arange(start, min(start + self.batch, count)) for start in range(0, count, self.batch))

    def _any_masks(self, rows: Rows) -> dict[str, Tensor]:
        return self._tensors(rows, [(_EVERY_ROW, i) for i in range(len(rows.ids))])

    def share_without_labels(self, rows: int = 64) -> float:
        """Which share of the first rows have no label, so that nothing is learnt from them."""
        steps = range(-(-rows // self.batch))
        empty = [(self.at(step)["labels"] == IGNORED).all(dim=1) for step in steps]
        return float(torch.cat(empty).float().mean())

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every document is read once, rounded up."""
        return self.steps(1)

    def steps(self, epochs: float) -> int:
        """Steps in which every document is read so many times, rounded up."""
        return math.ceil(epochs * self._steps_per_epoch)

    def epoch(self, step: int) -> float:
        """How many times every document has been read before a step."""
        return step / self._steps_per_epoch

    @property
    def tokens_per_step(self) -> int:
        """Of all processes, special tokens and padding included; with `tokens` at most those."""
        return self.tokens or self.batch * self.length

    def tokens_before(self, step: int) -> int:
        """Tokens that all processes have read before a step, special tokens and padding included.

        With `tokens` padding is not.
        """
        groups = self._groups
        return step * self.tokens_per_step if groups is None else groups.total_before(step, groups.lengths)

    @property
    def documents(self) -> int:
        """Documents to train on."""
        return len(self._split[0])

    @property
    def held_out_documents(self) -> int:
        """Documents to evaluate on."""
        return 0 if self._held is None else len(self._held.corpus.numbers)

    @property
    def evaluated(self) -> np.ndarray:
        """Which documents are held out, as their file numbers them."""
        return np.arange(0) if self._held is None else self._held.corpus.numbers

    @property
    def digest(self) -> str:
        """SHA-256 that changes with the tokens, where documents end, and the tokenizer; not with names of files."""
        return hashlib.sha256("".join(one.content for one in self._files).encode()).hexdigest()

    def check(self) -> None:
        """Read all data once and compare digests; InputError for a file that was altered or is damaged."""
        for file in self._files:
            file.check()

    def _check_files(self) -> None:
        for file in self._files:
            file.check_tokenizer(self.tokenizer)
        most = self.objective.most_id(self.tokenizer)
        needed = max(most + 1, *(file.vocabulary_size for file in self._files))
        if self.vocabulary_size is not None and needed > self.vocabulary_size:
            raise InputError(
                f"the tokens are of a vocabulary of {needed:,}, the model's has {self.vocabulary_size:,}; take the "
                "model's own tokenizer, or a model with a larger vocabulary"
            )
        require(self.held_out_file is None or not self.held_out, "held_out", self.held_out, "0 where there is a file")
        if self.held_out and self.file.documents == 1:
            raise InputError(
                f"evaluation.held_out is {self.held_out}, but the data are one document: data.split, 'lines' or "
                "'paragraphs', makes several of a text; or name held-out files as evaluation.data"
            )
        _ = self._split  # which refuses what does not fit

    @property
    def _files(self) -> list[TokenFile]:
        return [self.file, *([] if self.held_out_file is None else [self.held_out_file])]

    @cached_property
    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        """The documents to train on and those held out, in the file's order."""
        return hold_out(self.file.documents, self.held_out, self.held_out_by, "documents")

    @cached_property
    def _frame(self) -> Frame:
        """Special tokens around each row; none for a causal model, and where the tokenizer has none."""
        return self.objective.frame(self.tokenizer)

    @cached_property
    def _labeller(self) -> Labeller:
        return self.objective.labeller(self.tokenizer)

    @cached_property
    def _groups(self) -> Grouped | None:
        if self.tokens is None or not isinstance(self._training, Windows):
            return None
        return Grouped(lengths=self._training.lengths, tokens=self.tokens, seed=self.seed)

    @property
    def rows_per_epoch(self) -> float:
        """How many rows there are, on average where one may go on with the next epoch."""
        return self._training.rows_per_epoch

    @property
    def _steps_per_epoch(self) -> float:
        return self._groups.steps_per_epoch if self._groups else self.rows_per_epoch / self.batch

    @cached_property
    def _training(self) -> Stream | Windows | SegmentPairs:
        if isinstance(self._frame, PairFrame):
            return self._pairs(self.file, self._split[0])
        if not self.pack:
            return self._windows(self.file, self._split[0])
        return Stream(
            corpus=self._corpus(self.file, self._split[0]),
            length=self.length,
            frame=self._frame,
            pad_id=self._pad_id,
            seed=self.seed,
        )

    @cached_property
    def _held(self) -> Line | Windows | SegmentPairs | None:
        file = self.held_out_file or self.file
        numbers = np.arange(file.documents) if self.held_out_file else self._split[1]
        if not len(numbers):
            return None
        if isinstance(self._frame, PairFrame):
            return self._pairs(file, numbers)
        if not self.pack:
            return self._windows(file, numbers)
        return Line(
            corpus=self._corpus(file, numbers),
            length=self.length,
            frame=self._frame,
            pad_id=self._pad_id,
            overlap=self.objective.overlap,
        )

    def _corpus(self, file: TokenFile, numbers: np.ndarray) -> Corpus:
        """Packed documents: each has its special tokens, and the rows those of the pieces that they cut."""
        end = () if file.end_id is None else (file.end_id,)
        return Corpus(file, numbers, self._frame if len(self._frame) else Frame(before=end, after=end))

    def _windows(self, file: TokenFile, numbers: np.ndarray) -> Windows:
        corpus = Corpus(file, numbers, Frame()) if len(self._frame) else self._corpus(file, numbers)
        return Windows(
            corpus=corpus,
            length=self.length,
            frame=self._frame,
            pad_id=self._pad_id,
            overlap=self.objective.overlap,
            seed=self.seed,
        )

    def _pairs(self, file: TokenFile, numbers: np.ndarray) -> SegmentPairs:
        corpus, marks = Corpus(file, numbers, Frame()), self._sentence_marks
        return SegmentPairs(
            corpus=corpus, length=self.length, frame=self._frame, pad_id=self._pad_id, seed=self.seed, marks=marks
        )

    @cached_property
    def _sentence_marks(self) -> SentenceMarks:
        return SentenceMarks(self.tokenizer)

    @property
    def _pad_id(self) -> int:
        pad = self.tokenizer.pad_id
        return (self.file.end_id or 0) if pad is None else pad

    def _rows(self, step: int) -> tuple[Rows, bool]:
        """This process's rows of a step, and whether there is none for it, so that one fills up."""
        require_whole("step", step, 0)
        if self._groups is None or not isinstance(self._training, Windows):
            return self._training.rows(step * self.batch + np.arange(self.rank, self.batch, self.world)), False
        numbers = self._groups.rows(step)
        mine = numbers[self.rank :: self.world]
        return self._training.in_order(mine if len(mine) else numbers[:1]), not len(mine)

    def _tensors(self, rows: Rows, seeds: Sequence[tuple[int, ...]]) -> dict[str, Tensor]:
        ids, labels = self._labeller(rows, seeds)
        batch = {"input_ids": ids, "labels": labels}
        if rows.pairs is None or rows.types is None:
            batch["segments"] = rows.segments
        else:
            batch |= {"pair_labels": rows.pairs} | ({"token_type_ids": rows.types} if self.token_types > 1 else {})
        if not rows.real.all():
            batch["attention_mask"] = rows.real.astype(np.int64)
        return {name: torch.from_numpy(np.ascontiguousarray(one)) for name, one in batch.items()}

    def _evaluate(self, file: TokenFile, layout: Line | Windows | SegmentPairs) -> Iterator[dict[str, Tensor]]:
        for start in range(0, layout.count, self.batch):
            rows = np.arange(start, min(start + self.batch, layout.count))
            filled = np.arange(start, start + -(-len(rows) // self.world) * self.world)
            mine = filled[self.rank :: self.world]
            found = layout.in_order(np.minimum(mine, rows[-1]))
            batch = self._tensors(found, [(_HELD_OUT, int(row)) for row in mine])
            for name in batch.keys() & {"labels", "pair_labels"}:
                batch[name][torch.from_numpy(mine > rows[-1])] = IGNORED
            counted = (found.place >= 0) & (mine <= rows[-1])[:, None]
            if self.objective.overlap:  # what opens a row was predicted in the one before
                counted &= batch["labels"].numpy() != IGNORED
            yield {**batch, "bytes": _bytes(file, found.document[counted], found.place[counted])}  # type: ignore[dict-item]


def open_tokens(
    inputs: str | Path | Sequence[str | Path],
    tokenizer: Tokenizer,
    *,
    field: str = "text",
    split: Split = "file",
    name: str = "",
) -> TokenFile:
    """A token file, mapped; or texts (see `gossamer.text.read_documents`), tokenized in memory.

    name: what the tokenizer is called. Raises InputError for a token file among others, or of another tokenizer.
    """
    listed = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    ready = [one for one in listed if Path(one).suffix == ".tokens"]
    if not ready:
        return tokenize(read_documents(listed, field=field, split=split), tokenizer, name=name)
    if len(listed) > 1:
        raise InputError(f"{ready[0]} is one of {len(listed)} inputs; give one token file alone, or texts")
    file = TokenFile.open(ready[0])
    file.check_tokenizer(tokenizer)
    return file


def _bytes(file: TokenFile, documents: np.ndarray, places: np.ndarray) -> int:
    """UTF-8 bytes that these tokens stand for: of each document's bytes its tokens have equal shares, the sum exact."""
    sizes = np.diff(file.ends, prepend=0)[documents]
    whole = file.byte_counts[documents]
    return int((whole * (places + 1) // sizes - whole * places // sizes).sum())
