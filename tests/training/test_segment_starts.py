"""How segments begin and end: nothing in their spelling tells where in a document they are from."""

from pathlib import Path

import numpy as np
import pytest
import tokenizers

import gossamer as gs
from gossamer.text import Document, Tokenizer, byte_tokenizer, tokenize
from gossamer.text.byte_tokenizer import byte_letters
from gossamer.training.data.sentences import SentenceMarks
from gossamer.training.data.token_batches import Batches
from gossamer.training.objectives import Objective

BYTES = byte_tokenizer(pairs=True)
KINDS = ("sentence-order", "next-sentence")

LINES = [
    f"{name} {i} holds the web.{gap}It does not break! {name} waits.{gap}What flies by?{end}"
    for i in range(12)
    for name, gap, end in (("Thread", " ", ""), ("Spider", "\n", "\n"), (" Dew", "  ", " "), ("\u65e5\u672c", " ", ""))
]


def byte_pairs_bpe() -> Tokenizer:
    """Byte-level BPE of words, most of which it has with and without a space, with BERT's frame."""
    texts = [line for line in LINES for _ in range(3)]
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    special = ["<pad>", "<cls>", "<sep>", "<mask>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=byte_letters(), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<cls> $A <sep>", pair="<cls> $A <sep> $B:1 <sep>:1", special_tokens=[("<cls>", 1), ("<sep>", 2)]
    )
    names = {"pad_token": "<pad>", "cls_token": "<cls>", "sep_token": "<sep>", "mask_token": "<mask>"}
    return Tokenizer(backend, {"tokenizer_class": "PreTrainedTokenizerFast", **names})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spelling", ["bytes", "byte-level BPE"])
def test_how_a_segment_begins_does_not_tell_its_label(kind: str, spelling: str) -> None:
    """Each is spelled as where it is a text of its own, whether a space, a new line or nothing was before it."""
    tokenizer = BYTES if spelling == "bytes" else byte_pairs_bpe()
    file = tokenize([Document(source="made", number=i, parts=[line]) for i, line in enumerate(LINES)], tokenizer)
    objective = Objective(kind=kind, shorter=0.3)
    made = Batches(file=file, tokenizer=tokenizer, objective=objective, length=64, batch=20)
    rows = made._training.rows(np.arange(600))
    labels = []
    for ids, places, types, label in zip(rows.ids, rows.place, rows.types, rows.pairs, strict=True):
        labels.append(int(label))
        for segment in (0, 1):
            numbers = ids[(types == segment) & (places >= 0)].tolist()
            first = tokenizer.decode(numbers[:1])
            assert label < 0 or first == first.strip() != ""
            words = tokenizer.decode(numbers)
            whole = tokenizer.encode_plain(words)[0]
            assert label < 0 or "\ufffd" in words or whole[: len(numbers)][0] == numbers[0]
    assert labels.count(0) > 200
    assert labels.count(1) > 200
    assert 0 < labels.count(-100) < 120


def test_which_segment_lost_its_front_does_not_tell_the_order() -> None:
    """What a row has not room for is as often of the earlier segment, so that neither is the longer one."""
    random = np.random.default_rng(0)
    sentences = ("x" * int(size) + "." for size in random.integers(10, 120, size=1200))
    file = tokenize([Document(source="made", number=0, parts=["".join(sentences)])], BYTES)
    made = Batches(file=file, tokenizer=BYTES, objective=Objective(kind="sentence-order"), length=128, batch=1)
    rows = made._training.rows(np.arange(2500))
    starts = {0, *(np.flatnonzero(file.all_tokens == ord(".")) + 1).tolist()}
    labels: dict[tuple[bool, bool], list[int]] = {}
    for places, types, label in zip(rows.place, rows.types, rows.pairs, strict=True):
        cut = [places[(types == i) & (places >= 0)][0] not in starts for i in (0, 1)]
        if label >= 0:
            labels.setdefault((cut[0], cut[1]), []).append(int(label))
    for cut in ((True, False), (False, True), (True, True)):
        assert len(labels[cut]) > 200
        assert np.mean(labels[cut]) == pytest.approx(0.5, abs=0.08)


def test_ends_of_sentences(minilm: Path) -> None:
    tokenizer = gs.load(minilm).tokenizer
    ends = SentenceMarks(tokenizer).ends
    numbers = tokenizer.encode_plain("Is it? No! It is 3. Well")[0]
    assert [token for token, is_end in zip(tokenizer.tokens(numbers), ends[numbers], strict=True) if is_end] == [
        "?",
        "!",
        ".",
    ]
    assert SentenceMarks(BYTES).ends.sum() == 3


def test_ends_of_sentences_of_a_vocabulary_with_gaps() -> None:
    """Ids are not counted but read: 40 ends a sentence, and 7 to 39 are no tokens."""
    names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b")
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({name: i for i, name in enumerate(names)} | {".": 40}, unk_token="[UNK]")
    )
    marks = SentenceMarks(Tokenizer(backend, {"tokenizer_class": "BertTokenizer"}))
    assert np.flatnonzero(marks.ends).tolist() == [40]
    assert len(marks.ends) == 41
    assert not marks.blank.any()
