"""Vectors from every family: as `transformers` with pooling by hand, padded either way, in passes, through a folder."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from family_models import NAMES, config, distance, theirs
from tokenizers import models as vocabularies
from tokenizers import pre_tokenizers, processors
from torch import Tensor
from transformers import AutoModel

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model, SentenceEmbedding
from gossamer.text import Tokenizer

SPECIAL = ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]
VOCABULARY = {token: i for i, token in enumerate([*SPECIAL, *string.ascii_lowercase])}
TEXTS = ["a thread so light", "it", "floats in the air"]  # 14, 2 and 14 tokens, with the frame at most 16
LONG = "many of them laid far apart still hold " * 3


def tokenizer() -> Tokenizer:
    """A token a letter, in RoBERTa's order of special ones."""
    backend = tokenizers.Tokenizer(vocabularies.WordLevel(VOCABULARY, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    backend.add_special_tokens(SPECIAL)
    frame = [(token, VOCABULARY[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return Tokenizer(backend, {**names, "model_max_length": 16})


@pytest.fixture(params=list(NAMES))
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    """A bare encoder as transformers saves it, with a tokenizer, and the same in memory; 16 tokens long."""
    reference = theirs(request.param, "none", config(request.param))
    reference.save_pretrained(tmp_path / "encoder")
    tokenizer().save(tmp_path / "encoder")
    return tmp_path / "encoder", reference


@torch.no_grad()
def by_hand(reference: Any, ids: Tensor, mask: Tensor) -> Tensor:
    states = reference(ids, attention_mask=mask).last_hidden_state
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


@pytest.mark.parametrize("head", [None, "embed"])
def test_vectors_are_the_mean_of_transformers_states(saved: tuple[Path, Any], head: str | None) -> None:
    directory, reference = saved
    model = gs.load(directory, head=head)
    batch = model.tokenizer(TEXTS)
    expected = by_hand(reference, batch["input_ids"], batch["attention_mask"])
    found = gs.task("embed", model)(TEXTS)
    assert distance(found.vectors, expected) <= 1e-5
    assert found.passes == [1, 1, 1]
    assert not found.notes


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_model_pools_padded_texts_as_transformers_reads_them(saved: tuple[Path, Any], side: str) -> None:
    """BERT counts padding on the left as positions, RoBERTa does not: either as transformers has it."""
    directory, reference = saved
    model = gs.load(directory, head="embed")
    rows = [model.tokenizer(text)["input_ids"][0] for text in TEXTS]
    ids = torch.full((3, 16), 1)
    for i, row in enumerate(rows):
        ids[i, slice(16 - len(row), 16) if side == "left" else slice(len(row))] = row
    mask = (ids != 1).long()
    with torch.no_grad():
        assert distance(model(ids, attention_mask=mask).pooled, by_hand(reference, ids, mask)) <= 1e-5


def test_long_texts_are_read_in_passes_and_neighbours_change_nothing(saved: tuple[Path, Any]) -> None:
    embed = gs.task("embed", gs.load(saved[0]))
    together = embed([LONG, *TEXTS])
    assert together.passes[0] > 5
    assert together.passes[1:] == [1, 1, 1]
    alone = torch.cat([embed(text).vectors for text in (LONG, *TEXTS)])
    assert distance(together.vectors, alone) <= 1e-5
    spans = embed(LONG, spans=1)
    assert len(spans.spans) == together.tokens[0] == len(LONG.replace(" ", ""))
    assert spans.vectors.isfinite().all()


def test_the_first_tokens_of_a_long_text_are_read_as_its_start_alone(saved: tuple[Path, Any]) -> None:
    """An oracle for passes: the states of the first pass, in its frame, by transformers."""
    directory, reference = saved
    embed = gs.task("embed", gs.load(directory))
    letters = LONG.replace(" ", "")
    spans = embed(LONG, spans=4).vectors
    assert embed(LONG).passes[0] > 2  # so the first is as long as the model
    ids = torch.tensor([[0, *(VOCABULARY[one] for one in letters[:14]), 2]])
    with torch.no_grad():
        expected = reference(ids).last_hidden_state[0, 1:5].mean(0)
    assert distance(spans[0], expected) <= 1e-5


def test_a_lengthened_model_reads_it_in_one_pass(saved: tuple[Path, Any], tmp_path: Path) -> None:
    model = gs.load(saved[0], head="embed")
    long, _ = gs.lengthen(model, to=128, window=32, force=True)
    assert distance(gs.task("embed", long)(TEXTS).vectors, gs.task("embed", model)(TEXTS).vectors) <= 1e-5
    found = gs.task("embed", long)(LONG)
    assert found.passes == [1]
    gs.save(long, tmp_path / "long")
    assert torch.equal(gs.task("embed", gs.load(tmp_path / "long"))(LONG).vectors, found.vectors)
    assert (tmp_path / "long" / "modules.json").exists() == (long.family == "longformer")


@pytest.mark.parametrize("head", [SentenceEmbedding(pooling="cls"), SentenceEmbedding(pooling="max", normalized=True)])
def test_a_sentence_transformers_folder_of_every_family(
    saved: tuple[Path, Any], tmp_path: Path, head: SentenceEmbedding
) -> None:
    directory, reference = saved
    model = gs.load(directory, head=head)
    gs.save(model, tmp_path / "folder")
    again = gs.load(tmp_path / "folder")
    assert (again.architecture.head, again.family) == (head, model.family)
    expected = gs.task("embed", model)([*TEXTS, LONG]).vectors
    assert torch.equal(gs.task("embed", again)([*TEXTS, LONG]).vectors, expected)
    kinds = [one["type"].rpartition(".")[2] for one in json.loads((tmp_path / "folder" / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", *(["Normalize"] if head.normalized else [])]
    pooling = json.loads((tmp_path / "folder" / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 8
    assert pooling[f"pooling_mode_{head.pooling}_token" + "s" * (head.pooling == "max")] is True
    card = (tmp_path / "folder" / "README.md").read_text()
    assert "library_name: sentence-transformers" in card
    assert f"`sentence_transformers.SentenceTransformer` or `transformers.{type(reference).__name__}`" in card
    loaded = AutoModel.from_pretrained(tmp_path / "folder").eval()
    assert type(loaded) is type(reference)
    with torch.no_grad():
        ids = torch.tensor([[0, 5, 9, 2]])
        assert distance(loaded(ids).last_hidden_state, reference(ids).last_hidden_state) <= 1e-5
    weights = reference.state_dict()
    assert all(torch.equal(one, weights[name]) for name, one in loaded.state_dict().items())


def test_without_a_padding_token() -> None:
    """Every token counts; the shorter text of a batch is padded with whatever nobody sees."""
    settings = config("bert", pad_token_id=0)
    settings.pad_token_id = None
    model = Model(get_family("bert").read(settings.to_dict()), family="bert").eval()
    backend = tokenizer()
    model.tokenizer = Tokenizer(backend._backend, {"cls_token": "[CLS]", "sep_token": "[SEP]", "model_max_length": 16})
    embed = gs.task("embed", model)
    alone = torch.cat([embed(text).vectors for text in TEXTS])
    assert distance(embed(TEXTS).vectors, alone) <= 1e-5
