"""A new tokenizer from texts: WordPiece, byte-level BPE or unigram, in the form of a family that reads it."""

import io
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, trainers

from gossamer.errors import InputError
from gossamer.text.layouts import LAYOUTS, Layout
from gossamer.text.tokenizer import Tokenizer
from gossamer.text.tokenizer_arguments import check_count, check_texts
from gossamer.text.tokenizer_build import assemble
from gossamer.text.tokenizer_files import input_names, rust_errors, shorten
from gossamer.text.vocabularies import Vocabulary

__all__ = ["FAMILY_OF_KIND", "Kind", "train_tokenizer"]

Kind = Literal["wordpiece", "bpe", "unigram"]
FAMILY_OF_KIND = {"wordpiece": "bert", "bpe": "roberta", "unigram": "albert"}
"""The family that a tokenizer of each kind is made for unless another one is named."""

# A pair that is there once teaches nothing; BERT's alphabet has a thousand characters.
_LEAST_FREQUENT = 2
_ALPHABET = 1000
# The first ids, as in the published checkpoints: their configs' `pad_token_id` and others mean these.
_FIRST = {
    "wordpiece": ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"),
    "bpe": ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"),
}
# sentencepiece leaves longer lines out, without a word.
_LINE_BYTES = 4000
# Trainers take a time that grows with the square of a word's length, and Chinese has no spaces: such a run is cut here.
_LONG_RUN = re.compile(r"\S{900}(?=\S)")
# What a family adds to the pieces that sentencepiece trains, and how the file it reads is trained.
_ADDED = {"albert": 0, "deberta-v2": 1, "xlm-roberta": 2, "camembert": 5}
_PIECES: dict[str, dict[str, Any]] = {
    "albert": {
        "pad_id": 0,
        "unk_id": 1,
        "bos_id": -1,
        "eos_id": -1,
        "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
    },
    "deberta-v2": {
        "pad_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "unk_id": 3,
        "pad_piece": "[PAD]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
        "unk_piece": "[UNK]",
    },
}


def train_tokenizer(
    texts: Sequence[str],
    *,
    kind: Kind | None = None,
    family: str | None = None,
    vocabulary_size: int,
    lower_case: bool | None = None,
    max_length: int | None = None,
) -> Tokenizer:
    """A tokenizer of at most `vocabulary_size` tokens, learnt from texts; the same texts give the same one.

    kind: "wordpiece" (Schuster and Nakajima 2012; here by merges of the most frequent pair, as `tokenizers` trains it),
    "bpe" (byte-level: Sennrich et al. 2016, on bytes as in GPT-2) or "unigram" (Kudo 2018, trained by sentencepiece).
    family: whose special tokens it has and which model reads it: bert, distilbert, electra (wordpiece), roberta,
    longformer, gpt2 (bpe), albert, deberta-v2, xlm-roberta, camembert (unigram); one of the two is enough. lower_case:
    the family's habit unless given: bert, distilbert, electra and albert do, and take accents off as well. max_length:
    tokens the model to come will read.

    Few or short texts give fewer tokens than asked for. After 900 characters without white space a text is cut.
    Raises InputError for no texts, a kind that the family does not read, and a vocabulary too small for the characters
    of the texts.
    """
    layout = LAYOUTS[_family(kind, family)]
    name = next(one for one, other in LAYOUTS.items() if other is layout)
    whole = (_LONG_RUN.sub(r"\g<0>\n", text) for text in check_texts("texts", texts))
    lines = [line for text in whole for line in text.split("\n") if line.strip()]
    if not lines:
        raise InputError("the texts are empty; there is nothing to learn from")
    check_count(
        "vocabulary_size", vocabulary_size, len(set(layout.special.values())) + 1, "special tokens and one more"
    )
    if lower_case is not None and not isinstance(lower_case, bool):
        raise InputError(f"lower_case is {shorten(lower_case)}; it must be True, False or None")
    switches = dict(layout.switches)
    if lower_case is not None and "do_lower_case" in switches:
        switches["do_lower_case"] = lower_case
    lowers = bool(lower_case) and "do_lower_case" not in switches
    steps = _steps(layout, switches, lowers, b"")
    with rust_errors("no tokenizer can be trained on these texts", "give more text, or a smaller vocabulary"):
        if layout.kind == "unigram":
            vocabulary = _train_pieces(name, lines, vocabulary_size, steps)
        else:
            trained = _train_words if layout.kind == "wordpiece" else _train_bytes
            first = [layout.special[role] for role in _FIRST[layout.kind] if role in layout.special]
            vocabulary = trained(lines, vocabulary_size, steps, list(dict.fromkeys(first)))
    if len(vocabulary.ids) > vocabulary_size:
        raise InputError(
            f"vocabulary_size is {vocabulary_size:,}, but the characters of these texts and the special tokens are "
            f"{len(vocabulary.ids):,}; ask for more"
        )
    return _finish(layout, vocabulary, switches, lowers, max_length)


def _family(kind: object, family: object) -> str:
    if kind is None and family is None:
        raise InputError("there is neither kind nor family; kind is one of wordpiece, bpe, unigram")
    if kind is not None and kind not in FAMILY_OF_KIND:
        raise InputError(f"kind is {shorten(kind)}; it must be one of {', '.join(FAMILY_OF_KIND)}")
    chosen = FAMILY_OF_KIND[str(kind)] if family is None else family
    if not isinstance(chosen, str) or chosen not in LAYOUTS:
        raise InputError(f"family is {shorten(chosen)}; it must be one of {', '.join(LAYOUTS)}")
    if kind is not None and LAYOUTS[chosen].kind != kind:
        fitting = [name for name, layout in LAYOUTS.items() if layout.kind == kind]
        raise InputError(
            f"kind is {kind!r}, but {chosen!r} reads {LAYOUTS[chosen].kind}; of {kind} are {', '.join(fitting)}"
        )
    return chosen


def _steps(layout: Layout, switches: dict[str, Any], lowers: bool, charsmap: bytes) -> tokenizers.Tokenizer:
    """A backend with the family's steps and no vocabulary; `lowers` where the family itself has no switch for it."""
    backend = tokenizers.Tokenizer(models.BPE())
    layout.prepare(backend, switches, charsmap)
    if lowers:
        own = backend.normalizer
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *([] if own is None else [own])])
    return backend


def _train_words(lines: list[str], size: int, steps: tokenizers.Tokenizer, special: list[str]) -> Vocabulary:
    """Merges of the most frequent pairs of characters, the inner ones of a word marked "##".

    The trainer numbers those in the order it happens upon them, and settles ties by number; named beforehand, they and
    the outcome are the same every time.
    """
    first, inner = _characters(lines, steps)
    alphabet = sorted(first | inner)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=_LEAST_FREQUENT,
        special_tokens=[*special, *(f"##{character}" for character in sorted(inner))],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = steps.normalizer, steps.pre_tokenizer
    backend.train_from_iterator(lines, trainer)
    ids = backend.get_vocab(with_added_tokens=False)
    return Vocabulary(model=models.WordPiece(ids, unk_token="[UNK]"), ids=ids)


def _characters(lines: list[str], steps: tokenizers.Tokenizer) -> tuple[set[str], set[str]]:
    """The most frequent characters, as words begin with them and as they go on."""
    words: Counter[str] = Counter()
    for line in lines:
        words.update(word for word, _ in steps.pre_tokenizer.pre_tokenize_str(steps.normalizer.normalize_str(line)))
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    commonest = set(sorted(counts, key=lambda character: (-counts[character], character))[:_ALPHABET])
    return {word[0] for word in words if word} & commonest, {
        character for word in words for character in word[1:]
    } & commonest


def _train_bytes(lines: list[str], size: int, steps: tokenizers.Tokenizer, special: list[str]) -> Vocabulary:
    """Merges of the most frequent pairs of bytes, all 256 of which are there from the start."""
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=_LEAST_FREQUENT,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    steps.train_from_iterator(lines, trainer)
    return Vocabulary(model=steps.model, ids=steps.get_vocab(with_added_tokens=False))


def _train_pieces(family: str, lines: list[str], size: int, steps: tokenizers.Tokenizer) -> Vocabulary:
    import sentencepiece  # few need it

    model = io.BytesIO()
    clean = lines if steps.normalizer is None else [steps.normalizer.normalize_str(line) for line in lines]
    characters = {character for line in clean for character in line}
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(part for line in clean for part in _parts(line)),
            model_writer=model,
            model_type="unigram",
            vocab_size=size - _ADDED[family],
            hard_vocab_limit=False,
            character_coverage=1.0 if len(characters) <= _ALPHABET else 0.9995,
            num_threads=1,  # sums in one order: the same pieces every time
            minloglevel=3,
            **_PIECES.get(family, {}),
        )
    except RuntimeError as problem:
        why = " ".join(str(problem).split()).rpartition("] ")[2]
        raise InputError(
            f"no unigram vocabulary of {size:,} tokens can be trained on these texts ({why[:200]}); give more text, or "
            "another size"
        ) from problem
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / LAYOUTS[family].files[0]).write_bytes(model.getvalue())
        return LAYOUTS[family].read(Path(folder), LAYOUTS[family].special)


def _parts(line: str) -> Iterator[str]:
    """A line as pieces of whole words, short enough for sentencepiece."""
    part: list[str] = []
    length = 0
    for word in line.split():
        size = len(word.encode()) + 1
        if part and length + size > _LINE_BYTES:
            yield " ".join(part)
            part, length = [], 0
        part.append(word)
        length += size
    if part:
        yield " ".join(part)


def _finish(
    layout: Layout, vocabulary: Vocabulary, switches: dict[str, Any], lowers: bool, max_length: int | None
) -> Tokenizer:
    roles = {role: AddedToken(token, special=True) for role, token in layout.special.items()}
    backend = assemble(layout, vocabulary, roles, switches, roles.values())
    backend.normalizer = _steps(layout, switches, lowers, vocabulary.charsmap).normalizer
    # A family's own class would build the steps anew, without the lower case, or DeBERTa's without the table.
    name = "PreTrainedTokenizerFast" if lowers or layout.class_has_other_steps else layout.tokenizer_class
    names = input_names(layout.tokenizer_class, None)
    settings = {"tokenizer_class": name, "model_input_names": names, **switches, **layout.special}
    tokenizer = Tokenizer(backend, settings)
    return tokenizer if max_length is None else tokenizer.with_max_length(max_length)
