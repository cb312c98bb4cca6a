"""How each family cuts text: its files, special tokens, switches, and the steps around its vocabulary."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, normalizers, pre_tokenizers, processors

from gossamer.errors import InputError
from gossamer.text.vocabularies import Vocabulary, read_byte_pairs, read_pieces, read_word_pieces, unigram

__all__ = ["LAYOUTS", "Layout"]

Switches = Mapping[str, Any]
Special = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A family's tokenizer, as `transformers` 5 builds it from the family's own files.

    special: the token of each role, unless tokenizer_config.json names another. needed: roles whose token must be in
    the vocabulary. frame: roles of the tokens that open and close a text. switches: fields of tokenizer_config.json
    that change how text is cut, with what they are where it is silent. read: files to a vocabulary.
    prepare: sets a backend's normalizer, pre-tokenizer and decoder. close: the step that adds the special tokens,
    given the opening and closing token and their ids.
    """

    kind: str
    tokenizer_class: str
    files: tuple[str, ...]
    special: Special
    needed: tuple[str, ...]
    frame: tuple[str, str]
    switches: Switches
    read: Callable[[Path, Special], Vocabulary]
    prepare: Callable[[tokenizers.Tokenizer, Switches, bytes], None]
    close: Callable[[tuple[str, int], tuple[str, int], Switches], Any]
    mask_takes_space: bool = False
    """Whether the token to be filled in takes the white space before it, unless a config file says."""
    class_has_other_steps: bool = False
    """Whether `tokenizer_class` cuts text in another way than the file says, whatever tokenizer.json says."""


def _prepare_words(backend: tokenizers.Tokenizer, switches: Switches, charsmap: bytes) -> None:
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=switches["tokenize_chinese_chars"],
        strip_accents=switches["strip_accents"],
        lowercase=switches["do_lower_case"],
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")


def _prepare_bytes(backend: tokenizers.Tokenizer, switches: Switches, charsmap: bytes) -> None:
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=switches["add_prefix_space"])
    backend.decoder = decoders.ByteLevel()


def _prepare_pieces(backend: tokenizers.Tokenizer, switches: Switches, charsmap: bytes) -> None:
    if charsmap:
        backend.normalizer = normalizers.Precompiled(charsmap)
    _split_at_spaces(backend, switches)


def _prepare_albert(backend: tokenizers.Tokenizer, switches: Switches, charsmap: bytes) -> None:
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    steps += [] if switches["keep_accents"] else [normalizers.NFKD(), normalizers.StripAccents()]
    steps += [normalizers.Lowercase()] if switches["do_lower_case"] else []
    steps += [normalizers.Precompiled(charsmap)] if charsmap else []
    backend.normalizer = normalizers.Sequence(steps)
    _split_at_spaces(backend, switches)


def _prepare_deberta(backend: tokenizers.Tokenizer, switches: Switches, charsmap: bytes) -> None:
    """As sentencepiece cuts text itself; `transformers` 5 has NFC in place of the file's own table."""
    steps: list[Any] = [normalizers.Lowercase()] if switches["do_lower_case"] else []
    steps += [normalizers.Strip(), *([normalizers.Precompiled(charsmap)] if charsmap else [])]
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(tokenizers.Regex(" {2,}"), " ")])
    scheme = "always" if switches["add_prefix_space"] else "never"
    marked = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)
    apart = [pre_tokenizers.Punctuation(behavior="isolated")] if switches["split_by_punct"] else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*apart, marked])
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme=scheme)


def _split_at_spaces(backend: tokenizers.Tokenizer, switches: Switches) -> None:
    scheme = "always" if switches["add_prefix_space"] else "never"
    marked = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), marked])
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme=scheme)


def _close_typed(opens: tuple[str, int], closes: tuple[str, int], switches: Switches) -> Any:
    """One closing token between two texts; the second is of type 1."""
    return processors.TemplateProcessing(
        single=[f"{opens[0]}:0", "$A:0", f"{closes[0]}:0"],
        pair=[f"{opens[0]}:0", "$A:0", f"{closes[0]}:0", "$B:1", f"{closes[0]}:1"],
        special_tokens=[opens, closes],
    )


def _close_untyped(opens: tuple[str, int], closes: tuple[str, int], switches: Switches) -> Any:
    """Two closing tokens between two texts; all are of type 0."""
    return processors.TemplateProcessing(
        single=[opens[0], "$A", closes[0]],
        pair=[opens[0], "$A", closes[0], closes[0], "$B", closes[0]],
        special_tokens=[opens, closes],
    )


def _close_bytes(opens: tuple[str, int], closes: tuple[str, int], switches: Switches) -> Any:
    """As `_close_untyped`; offsets leave out the space that byte-level tokens begin with."""
    return processors.RobertaProcessing(closes, opens, switches["trim_offsets"], switches["add_prefix_space"])


def _close_open(opens: tuple[str, int], closes: tuple[str, int], switches: Switches) -> Any:
    """No token around a text, unless the switches ask for one; all are of type 0."""
    before = [opens[0]] if switches["add_bos_token"] else []
    after = [closes[0]] if switches["add_eos_token"] else []
    return processors.TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", *after, *before, "$B", *after],
        special_tokens=list(dict.fromkeys((opens, closes))),
    )


def _read_albert(directory: Path, special: Special) -> Vocabulary:
    path = directory / "spiece.model"
    pieces = read_pieces(path)
    return unigram(path, pieces, pieces.scores, pieces.unknown)


def _read_deberta(directory: Path, special: Special) -> Vocabulary:
    """The file's pieces in their order, and the token to be filled in last where the file has it not."""
    path = directory / "spm.model"
    pieces = read_pieces(path)
    mask = special["mask_token"]
    has_mask = any(piece == mask for piece, _ in pieces.scores)
    return unigram(path, pieces, [*pieces.scores, *([] if has_mask else [(mask, 0.0)])], pieces.unknown)


def _read_xlm_roberta(directory: Path, special: Special) -> Vocabulary:
    """fairseq's order: <s> <pad> </s> <unk>, the file's pieces after <unk> <s> </s>, and <mask> last."""
    path = directory / "sentencepiece.bpe.model"
    pieces = read_pieces(path)
    first = [piece for piece, _ in pieces.scores[:3]]
    if first != ["<unk>", "<s>", "</s>"]:
        raise InputError(f"{path} begins with the pieces {first}, XLM-RoBERTa's with <unk> <s> </s>; fetch it again")
    head = [(special[role], 0.0) for role in ("bos_token", "pad_token", "eos_token", "unk_token")]
    return unigram(path, pieces, [*head, *pieces.scores[3:], (special["mask_token"], 0.0)], 3)


def _read_camembert(directory: Path, special: Special) -> Vocabulary:
    """CamemBERT's order: five tokens of its own, two of them never used, the file's pieces after <unk>, <mask> last."""
    path = directory / "sentencepiece.bpe.model"
    pieces = read_pieces(path)
    if pieces.scores[0][0] != "<unk>":
        raise InputError(f"{path} begins with {pieces.scores[0][0]!r}, CamemBERT's with <unk>; fetch it again")
    head = [
        *(("<s>NOTUSED", 0.0), (special["pad_token"], 0.0), ("</s>NOTUSED", 0.0)),
        *((special["unk_token"], 0.0), ("<unk>NOTUSED", -100.0)),
    ]
    return unigram(path, pieces, [*head, *pieces.scores[1:], (special["mask_token"], 0.0)], 3)


_BERT = Layout(
    kind="wordpiece",
    tokenizer_class="BertTokenizer",
    files=("vocab.txt",),
    special={
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    needed=("unk_token", "sep_token", "pad_token", "cls_token"),
    frame=("cls_token", "sep_token"),
    switches={"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None},
    read=read_word_pieces,
    prepare=_prepare_words,
    close=_close_typed,
)
_FAIRSEQ = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_ROBERTA = Layout(
    kind="bpe",
    tokenizer_class="RobertaTokenizer",
    files=("vocab.json", "merges.txt"),
    special=_FAIRSEQ,
    needed=("cls_token", "sep_token", "pad_token"),
    frame=("cls_token", "sep_token"),
    switches={"add_prefix_space": False, "trim_offsets": True},
    read=read_byte_pairs,
    prepare=_prepare_bytes,
    close=_close_bytes,
)
_GPT2 = Layout(
    kind="bpe",
    tokenizer_class="GPT2Tokenizer",
    files=("vocab.json", "merges.txt"),
    special=dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
    needed=("eos_token",),
    frame=("bos_token", "eos_token"),
    switches={"add_prefix_space": False, "add_bos_token": False, "add_eos_token": False},
    read=read_byte_pairs,
    prepare=_prepare_bytes,
    close=_close_open,
)
_ALBERT = Layout(
    kind="unigram",
    tokenizer_class="AlbertTokenizer",
    files=("spiece.model",),
    special={
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
        "unk_token": "<unk>",
        "sep_token": "[SEP]",
        "pad_token": "<pad>",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    needed=("unk_token", "sep_token", "pad_token", "cls_token"),
    frame=("cls_token", "sep_token"),
    switches={"do_lower_case": True, "keep_accents": False, "add_prefix_space": True},
    read=_read_albert,
    prepare=_prepare_albert,
    close=_close_typed,
)
_DEBERTA = replace(
    _ALBERT,
    tokenizer_class="DebertaV2Tokenizer",
    files=("spm.model",),
    special={**_ALBERT.special, "unk_token": "[UNK]", "pad_token": "[PAD]"},
    switches={"do_lower_case": False, "split_by_punct": False, "add_prefix_space": True},
    read=_read_deberta,
    prepare=_prepare_deberta,
    class_has_other_steps=True,
)


def _sentencepiece(
    tokenizer_class: str, read: Callable[[Path, Special], Vocabulary], mask_takes_space: bool = False
) -> Layout:
    return Layout(
        kind="unigram",
        tokenizer_class=tokenizer_class,
        files=("sentencepiece.bpe.model",),
        special=_FAIRSEQ,
        needed=("bos_token", "eos_token", "unk_token", "pad_token"),
        frame=("bos_token", "eos_token"),
        switches={"add_prefix_space": True},
        read=read,
        prepare=_prepare_pieces,
        close=_close_untyped,
        mask_takes_space=mask_takes_space,
    )


LAYOUTS: Mapping[str, Layout] = {
    "bert": _BERT,
    "distilbert": replace(_BERT, tokenizer_class="DistilBertTokenizer"),
    "electra": replace(_BERT, tokenizer_class="ElectraTokenizer"),
    "roberta": _ROBERTA,
    "longformer": _ROBERTA,
    "gpt2": _GPT2,
    "albert": _ALBERT,
    "deberta-v2": _DEBERTA,
    "xlm-roberta": _sentencepiece("XLMRobertaTokenizer", _read_xlm_roberta),
    "camembert": _sentencepiece("CamembertTokenizer", _read_camembert, mask_takes_space=True),
}
"""The layout of each family, by its `model_type`."""
