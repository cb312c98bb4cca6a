"""Marian's tokenizers, a sentencepiece model a language over one vocabulary, against `transformers`."""

import io
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel, MarianTokenizer, PreTrainedTokenizerBase

import gossamer as gs
from gossamer.errors import InputError
from gossamer.generation import score_continuations
from gossamer.text import Tokenizer, speeches
from gossamer.training.objectives import Seq2SeqObjective
from gossamer.training.objectives.labelled.labels import LabelledRow

SENTENCES = [one for speech in speeches()[:10] for one in speech.text.split(".") if 5 < len(one) < 400]
TEXTS = [*SENTENCES[350:500], ">>xy<< hello there", "naïve 日本  double  space", "", "ﬁne ½", "</s> <pad> <unk>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as opus-mt's are: no tokenizer.json. The other language is the letters in reverse."""
    found = tmp_path_factory.mktemp("marian")
    pieces: dict[str, None] = {}
    for name, lines in (("source.spm", SENTENCES[:350]), ("target.spm", [one[::-1] for one in SENTENCES[:350]])):
        data = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=data, vocab_size=300, num_threads=1, minloglevel=2
        )
        (found / name).write_bytes(data.getvalue())
        read = sentencepiece.SentencePieceProcessor(model_proto=data.getvalue())
        pieces |= dict.fromkeys(read.id_to_piece(i) for i in range(3, read.get_piece_size()))
    words = ["</s>", "<unk>", ">>xy<<", *sorted(pieces), "<pad>"]
    (found / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (found / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MarianTokenizer"}))
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(words), d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=256,
        pad_token_id=len(words) - 1, decoder_start_token_id=len(words) - 1,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(found)
    return found


@pytest.fixture(scope="module")
def oracle(folder: Path) -> PreTrainedTokenizerBase:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends sacremoses
        return MarianTokenizer.from_pretrained(folder)


def test_both_texts_have_the_ids_of_transformers(folder: Path, oracle: Any, tmp_path: Path) -> None:
    assert len(TEXTS) == 155
    ours = Tokenizer.load(folder, "marian")
    ours.save(tmp_path)
    for one in (ours, Tokenizer.load(tmp_path), ours.with_max_length(512)):
        for text in TEXTS:
            ids, labels = oracle(text)["input_ids"], oracle(text_target=text[::-1])["input_ids"]
            batch = one(text, text_target=text[::-1], truncation=False)
            assert batch["input_ids"][0].tolist() == ids, text
            assert batch["labels"][0].tolist() == labels, text
            assert one.encode_target(text[::-1]) == labels
            assert one.decode(ids) == oracle.decode(ids, skip_special_tokens=True)
            assert one.decode(labels) == oracle.decode(labels, skip_special_tokens=True)
    assert ours.max_length == 512
    letters = ours("a", text_target="</s> b", control_tokens=False)
    assert (letters["labels"] == 0).sum() == 1


def test_the_second_language_is_used_wherever_second_texts_are(folder: Path, oracle: Any) -> None:
    model = gs.load(folder)
    text, target = SENTENCES[0], SENTENCES[1][::-1]
    wanted = oracle(text_target=target)["input_ids"]
    assert wanted != oracle(target)["input_ids"]
    ((scored,),) = score_continuations(model, text, target)
    assert scored.ids == wanted
    written = gs.generate(model, text, choices=[target], max_new_tokens=len(wanted), rules={})
    assert written.ids == [wanted]
    assert written.texts == [oracle.decode(wanted, skip_special_tokens=True)]
    row = LabelledRow(name="r", text=text, label=target)
    (example,) = Seq2SeqObjective().encode([row], model.tokenizer, 256, model.architecture.head, control_tokens=True)
    assert example.labels.tolist() == wanted
    assert example.ids.tolist() == oracle(text)["input_ids"]


def test_a_saved_model_keeps_both(folder: Path, tmp_path: Path) -> None:
    model = gs.load(folder)
    again = gs.load(gs.save(model, tmp_path / "a"))
    assert again.tokenizer.encode_target("ab") == model.tokenizer.encode_target("ab")
    gs.save(gs.load("sample:minilm"), tmp_path / "a")
    assert not (tmp_path / "a" / "target_tokenizer.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda at: (at / "target.spm").unlink(), "target.spm is missing"),
        (lambda at: (at / "source.spm").write_bytes(b"\x00abc"), "source.spm is no sentencepiece model"),
        (
            lambda at: (at / "vocab.json").write_text('{"</s>": 0, "<unk>": 1}'),
            "vocab.json has no '<pad>', the pad_token",
        ),
        (
            lambda at: (at / "vocab.json").write_text('{"</s>": 0, "<unk>": 7}'),
            "ids go up to 7, but there are 2 tokens",
        ),
        (lambda at: (at / "target_vocab.json").write_text("{}"), "has a vocabulary for each language"),
    ],
)
def test_files_that_will_not_do_are_named(folder: Path, tmp_path: Path, change: Any, said: str) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "a"))
    change(copied)
    with pytest.raises(InputError, match=said):
        gs.load(copied)
