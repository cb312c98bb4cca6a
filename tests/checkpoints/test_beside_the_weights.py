"""Files beside the weights (sentence-transformers', the tokenizer's) and names that lead to the hub."""

import json
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import BERT, build, same, write

import gossamer as gs
from gossamer.checkpoints import hub
from gossamer.errors import quote
from gossamer.models import SentenceEmbedding, SequenceClassification


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


def in_its_own_folder(embedder: Path) -> None:
    modules = json.loads((embedder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    edit(embedder / "modules.json", modules)
    (embedder / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "sentence_bert_config.json"):
        (embedder / name).rename(embedder / "0_Transformer" / name)


@pytest.mark.parametrize("version_file", [False, True])
def test_encoder_in_its_own_folder_is_found(embedder: Path, version_file: bool) -> None:
    expected = gs.load(embedder)
    in_its_own_folder(embedder)
    if version_file:  # what old versions of sentence-transformers put where a model's config.json would be
        edit(embedder / "config.json", {"__version__": "0.4.1"})
    assert same(gs.load(embedder), expected)
    assert gs.load(embedder).architecture.head == expected.architecture.head
    head = SequenceClassification(labels=("no", "yes"))
    for given, found in (("none", None), ("embed", expected.architecture.head), (head, head)):
        model = gs.load(embedder, head=given)  # type: ignore[arg-type]
        assert model.architecture.head == found
        ours, theirs = model.state_dict(), expected.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs if not name.startswith("pooler."))


def test_damaged_modules_file_leads_to_no_encoder(embedder: Path) -> None:
    in_its_own_folder(embedder)
    (embedder / "modules.json").write_text("[")
    with pytest.raises(gs.InputError, match=r"modules\.json"):
        gs.load(embedder, head="none")


def test_pooling_without_modules_file_is_refused(embedder: Path) -> None:
    (embedder / "modules.json").unlink()
    for head in (None, "embed"):
        with pytest.raises(gs.InputError, match="but there is 1_Pooling"):
            gs.load(embedder, head=head)
    head = SentenceEmbedding(pooling="max")
    assert gs.load(embedder, head=head).architecture.head == head
    assert gs.load(embedder, head="none").architecture.head is None


@pytest.mark.parametrize("name", ["sentence_bert_config.json", "sentence_xlm-roberta_config.json"])
def test_longest_text_of_sentence_files_bounds_the_tokenizer(minilm: Path, tmp_path: Path, name: str) -> None:
    gs.save(gs.load(minilm), tmp_path / "model")
    (tmp_path / "model" / "sentence_bert_config.json").unlink()
    for limit, expected in ((100, 100), (None, 256), (10**6, 256)):
        edit(tmp_path / "model" / name, {"max_seq_length": limit, "do_lower_case": True})
        assert gs.load(tmp_path / "model").tokenizer.max_length == expected
    edit(tmp_path / "model" / name, {"max_seq_length": 100})
    assert gs.load(tmp_path / "model", head="none").tokenizer.max_length == 256
    gs.save(gs.load(tmp_path / "model"), tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "sentence_bert_config.json").read_text())["max_seq_length"] == 100


def test_the_sample_model_reads_no_more_than_it_was_made_for(minilm: Path) -> None:
    assert gs.load(minilm).tokenizer.max_length == 256
    assert gs.load(minilm, head="none").tokenizer.max_length == 512


def test_capitals_that_the_tokenizer_tells_are_refused(minilm: Path, tmp_path: Path) -> None:
    gs.save(gs.load(minilm), tmp_path / "model")
    edit(tmp_path / "model" / "sentence_bert_config.json", {"do_lower_case": True})
    gs.load(tmp_path / "model")
    tokenizer = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    edit(tmp_path / "model" / "tokenizer.json", {**tokenizer, "normalizer": None})
    with pytest.raises(gs.InputError, match="do_lower_case is true"):
        gs.load(tmp_path / "model")


def test_a_mark_before_the_text_is_skipped(embedder: Path) -> None:
    expected = gs.load(embedder)
    for name in ("config.json", "modules.json"):
        (embedder / name).write_bytes(b"\xef\xbb\xbf" + (embedder / name).read_bytes())
    assert same(gs.load(embedder), expected)


@pytest.mark.parametrize("name", ["config.json", "modules.json", "1_Pooling/config.json"])
def test_a_key_that_is_there_twice_is_refused(embedder: Path, name: str) -> None:
    text = (embedder / name).read_text()
    (embedder / name).write_text(text.replace("{", '{"foo": 1, "foo": 1,', 1))
    with pytest.raises(gs.InputError, match="the key 'foo' is there twice") as caught:
        gs.load(embedder)
    assert str(caught.value).startswith(str(embedder / name))


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
        ("sentence_bert_config.json", [], "must be a JSON object"),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "whole number from 1"),
        ("sentence_bert_config.json", {"max_seq_length": True}, "whole number from 1"),
        ("sentence_bert_config.json", {"do_lower_case": 1}, "true or false"),
    ],
)
def test_what_sentence_files_cannot_say_is_refused(embedder: Path, file: str, value: object, said: str) -> None:
    edit(embedder / file, value)
    with pytest.raises(gs.InputError, match=Path(file).name) as caught:
        gs.load(embedder)
    assert said in str(caught.value)
    assert gs.load(embedder, head="none").architecture.head is None


def test_tokenizer_is_held_to_the_models_length(minilm: Path, tmp_path: Path) -> None:
    gs.save(gs.load(minilm, head="none"), tmp_path / "model")
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

    def snapshot_download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
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
