"""Files beside the weights (sentence-transformers', the tokenizer's) and names that lead to the hub."""

import json
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import BERT, build, same, write

import gossamer as gs
from gossamer.checkpoints import hub
from gossamer.errors import quote
from gossamer.models import SentenceEmbedding


def edit(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    return write(tmp_path / "model", BERT, head=SentenceEmbedding(pooling="mean", normalized=True))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalized", [True, False])
def test_sentence_files_say_how_to_pool(tmp_path: Path, pooling: str, normalized: bool) -> None:
    head = SentenceEmbedding(pooling=pooling, normalized=normalized)  # type: ignore[arg-type]
    directory = write(tmp_path / "model", BERT, head=head)
    assert gs.load(directory).architecture.head == head
    assert gs.load(directory, head="none").architecture.head is None


def test_pooling_named_in_one_word_is_read(embedder: Path) -> None:
    edit(embedder / "1_Pooling" / "config.json", {"pooling_mode": "max"})
    assert gs.load(embedder).architecture.head == SentenceEmbedding(pooling="max", normalized=True)


def test_encoder_in_its_own_folder_is_found(embedder: Path) -> None:
    expected = gs.load(embedder)
    modules = json.loads((embedder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    edit(embedder / "modules.json", modules)
    (embedder / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors"):
        (embedder / name).rename(embedder / "0_Transformer" / name)
    assert same(gs.load(embedder), expected)


@pytest.mark.parametrize(
    ("file", "value", "said"),
    [
        ("modules.json", {}, "must be a JSON list"),
        ("modules.json", [], "Transformer, Pooling, Normalize"),
        ("modules.json", [3], "object with a type"),
        ("modules.json", [{"type": "a.Transformer", "path": "../.."}], "inside the model directory"),
        ("modules.json", [{"type": "a.Transformer"}, {"type": "a.Dense", "path": "2_Dense"}], "Dense"),
        ("1_Pooling/config.json", {"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "one of them"),
        ("1_Pooling/config.json", {}, "mean, cls and max"),
        ("1_Pooling/config.json", [], "must be a JSON object"),
    ],
)
def test_what_sentence_files_cannot_say_is_refused(embedder: Path, file: str, value: object, said: str) -> None:
    edit(embedder / file, value)
    with pytest.raises(gs.InputError, match=Path(file).name) as caught:
        gs.load(embedder)
    assert said in str(caught.value)
    assert gs.load(embedder, head="none").architecture.head is None


def test_tokenizer_is_held_to_the_models_length(minilm: Path, tmp_path: Path) -> None:
    gs.save(gs.load(minilm), tmp_path / "model")
    (tmp_path / "model" / "gossamer.json").unlink()
    settings = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    for limit, expected in ((10**30, 512), (4096, 512), (128, 128)):
        edit(tmp_path / "model" / "tokenizer_config.json", {**settings, "model_max_length": limit})
        assert gs.load(tmp_path / "model").tokenizer.max_length == expected


def test_damaged_tokenizer_is_refused(minilm: Path, tmp_path: Path) -> None:
    gs.save(gs.load(minilm), tmp_path / "model")
    (tmp_path / "model" / "gossamer.json").unlink()
    (tmp_path / "model" / "tokenizer.json").write_text("{")
    with pytest.raises(gs.InputError, match=r"tokenizer\.json"):
        gs.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["no/such/dir", "./nowhere", "/nowhere", "", "a b", "../x", "owner/na me", "\0"])
def test_name_that_is_neither_directory_nor_id_is_refused(name: str) -> None:
    with pytest.raises(gs.InputError, match="no such directory"):
        gs.load(name)


@pytest.mark.parametrize("name", [None, 5, b"x", "x" * 5000, "x/" + "y" * 300, "~nobody-of-this-name/x", "a\0b", ""])
def test_name_that_is_none_is_refused(name: object) -> None:
    with pytest.raises(gs.InputError) as loading:
        gs.load(name)  # type: ignore[arg-type]
    with pytest.raises(gs.InputError, match="directory is") as saving:
        gs.save(build(BERT), name)  # type: ignore[arg-type]
    for caught in (loading, saving):
        assert len(str(caught.value)) < 450
        assert quote(name) in str(caught.value)


def test_file_is_not_a_directory(embedder: Path) -> None:
    with pytest.raises(gs.InputError, match="is a file"):
        gs.load(embedder / "model.safetensors")


def test_offline_hub_is_said_in_one_line() -> None:
    with pytest.raises(gs.InputError, match="'someone/some-model' is no directory here") as caught:
        gs.load("someone/some-model")
    assert "\n" not in str(caught.value)


def test_hub_is_asked_for_no_more_than_needed(embedder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[list[str]] = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(embedder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert hub.find_checkpoint("someone/some-model") == embedder
    assert len(asked) == 1
    assert "*.safetensors" in asked[0]
    assert not any(pattern.endswith(("bin", "py", "pt")) for pattern in asked[0])
    tensors = dict(build(BERT).state_dict())
    torch.save(tensors, embedder / "pytorch_model.bin")
    (embedder / "model.safetensors").unlink()
    hub.find_checkpoint("someone/some-model")
    assert asked[-1][-1] == "pytorch_model*.bin"
