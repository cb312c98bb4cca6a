"""Small drawn tokenizers of every kind whose tokens can be left out, and texts for them."""

from typing import Any

import tokenizers
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors

from gossamer.text import Tokenizer

LETTERS = "abc"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
ROLES = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXTS = st.text(LETTERS + "aabbxé ", max_size=30)
"""Some letters that no vocabulary has."""


def finished(backend: tokenizers.Tokenizer, added: list[str]) -> Tokenizer:
    """With special tokens around a text, and others that are added behind the vocabulary."""
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    backend.add_tokens([AddedToken(name, normalized=False) for name in added])
    opens, closes = (backend.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", opens), ("[SEP]", closes)]
    )
    return Tokenizer(backend, {**ROLES, "tokenizer_class": "PreTrainedTokenizerFast"})


ADDED = st.sampled_from([[], ["<new>"], ["<new>", "<b>"]])


@st.composite
def word_pieces(draw: st.DrawFn) -> Tokenizer:
    """Every letter of a token is one by itself, as in trained vocabularies; some letters are none."""
    letters = draw(st.sampled_from(["ab", "abc"]))
    words = draw(st.lists(st.text(letters, min_size=2, max_size=4), max_size=12, unique=True))
    inner = draw(st.lists(st.text(letters, min_size=2, max_size=4), max_size=12, unique=True))
    tokens = [*letters, *(f"##{one}" for one in letters), *words, *(f"##{one}" for one in inner)]
    order = draw(st.permutations([*SPECIAL, *tokens]))
    backend = tokenizers.Tokenizer(models.WordPiece({one: i for i, one in enumerate(order)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return finished(backend, draw(ADDED))


@st.composite
def byte_pairs(draw: st.DrawFn) -> Tokenizer:
    """Drawn merges in a drawn order, several of which may make one token; of bytes, with a fallback on them, or not."""
    spelled = draw(st.sampled_from(["bytes", "fallback", "letters"]))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet()) if spelled == "bytes" else list(LETTERS)
    alphabet = [*letters, *(BYTES if spelled == "fallback" else [])]
    made, merges = list(LETTERS), []
    for _ in range(draw(st.integers(8, 24))):
        pair = (draw(st.sampled_from(made)), draw(st.sampled_from(made)))
        if pair not in merges and len("".join(pair)) < 8:
            merges.append(pair)
            made += [] if "".join(pair) in made else ["".join(pair)]
    merges = draw(st.permutations(merges))
    made = draw(st.permutations([*SPECIAL, *made[len(LETTERS) :]]))
    tokens = [*made, *alphabet] if draw(st.booleans()) else [*alphabet, *made]
    options: dict[str, Any] = {"byte_fallback": spelled == "fallback", "ignore_merges": draw(st.booleans())}
    if spelled != "bytes":
        options |= {"unk_token": "[UNK]", "fuse_unk": draw(st.booleans())}
    backend = tokenizers.Tokenizer(models.BPE({one: i for i, one in enumerate(tokens)}, merges, **options))
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=draw(st.booleans()))
    backend.pre_tokenizer = as_bytes if spelled == "bytes" else pre_tokenizers.WhitespaceSplit()
    return finished(backend, draw(ADDED))


@st.composite
def unigrams(draw: st.DrawFn) -> Tokenizer:
    """Pieces with drawn scores, some of them alike; some letters are no piece by themselves."""
    pieces = draw(st.lists(st.text("ab▁", min_size=1, max_size=3), min_size=4, max_size=24, unique=True))
    scores = st.sampled_from([-1.0, -2.0, -3.5, -8.0, -9.0, -20.0])
    fallback = draw(st.booleans())
    scored = [(name, 0.0) for name in SPECIAL] + [(piece, draw(scores)) for piece in pieces]
    scored = [*([(name, -9.0) for name in BYTES] if fallback else []), *draw(st.permutations(scored))]
    unknown = [name for name, _ in scored].index("[UNK]")
    backend = tokenizers.Tokenizer(models.Unigram(scored, unk_id=unknown, byte_fallback=fallback))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return finished(backend, draw(ADDED))


KINDS = {"WordPiece": word_pieces(), "BPE": byte_pairs(), "Unigram": unigrams()}
