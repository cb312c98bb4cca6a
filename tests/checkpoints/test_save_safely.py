"""A save that fails, at any moment and for any reason, leaves the old model as it was and nothing else behind."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_checkpoints import BERT, LONGFORMER, build, edit_config, same, write

import gossamer as gs
from gossamer.checkpoints import replace as replace_module
from gossamer.checkpoints import save as save_module  # the function: its module is in sys.modules
from gossamer.models import SentenceEmbedding

SAVE = sys.modules["gossamer.checkpoints.save"]
assert save_module is gs.save
FAILURES = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), MemoryError()]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(one.relative_to(directory)): one.read_bytes() for one in directory.rglob("*") if one.is_file()}


def fail_at(monkeypatch: pytest.MonkeyPatch, moment: str, failure: BaseException) -> None:
    def half_written(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise failure

    def fail(*_: object, **__: object) -> None:
        raise failure

    if moment == "weights":
        monkeypatch.setattr(SAVE, "save_file", half_written)
    elif moment == "card":
        monkeypatch.setattr(SAVE, "model_card", fail)
    elif moment == "seal":
        monkeypatch.setattr(SAVE, "seal", fail)
    elif moment == "flush":
        monkeypatch.setattr(replace_module.os, "fsync", fail)
    elif moment == "swap":
        monkeypatch.setattr(replace_module, "_put", fail)


@pytest.mark.parametrize("there", [True, False], ids=["over a model", "new"])
@pytest.mark.parametrize("failure", FAILURES, ids=["full disk", "interrupt", "memory"])
@pytest.mark.parametrize("moment", ["weights", "card", "seal", "flush", "swap"])
def test_failed_save_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, failure: BaseException, there: bool
) -> None:
    target = tmp_path / "models" / "one"
    target.parent.mkdir()
    if there:
        gs.save(build(LONGFORMER), target)
        (target / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        fail_at(patch, moment, failure)
        expected = gs.GossamerError if isinstance(failure, OSError) else type(failure)
        with pytest.raises(expected) as caught:
            gs.save(build(BERT), target)
    if isinstance(failure, OSError):
        assert "No space left on device" in str(caught.value)
        assert ("untouched" if there else "nothing was left behind") in str(caught.value)
    assert contents(tmp_path) == before
    assert [one.name for one in target.parent.iterdir()] == (["one"] if there else [])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_file_system_that_refuses_is_reported(tmp_path: Path) -> None:
    gs.save(build(LONGFORMER), tmp_path / "model")
    before = contents(tmp_path)
    code = (
        "import resource, signal, sys, gossamer as gs\n"
        "model = gs.load(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: gs.save(model, sys.argv[1])\n"
        "except gs.GossamerError as problem: print(problem)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")], capture_output=True, text=True, check=True
    )
    assert "could not be saved" in done.stdout
    assert "untouched" in done.stdout
    assert contents(tmp_path) == before


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "by renaming"])
def test_saving_over_a_model_replaces_it_and_keeps_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(replace_module, "_exchange", lambda new, target: False)
    target = write(tmp_path / "model", BERT, head=SentenceEmbedding())
    (target / "notes.txt").write_text("mine")
    (target / "onnx").mkdir()
    (target / "onnx" / "config.json").write_text("{}")
    (target / "pytorch_model.bin").write_bytes(b"stale")
    model = build(LONGFORMER)
    gs.save(model, target)
    assert same(gs.load(target), model)
    assert set(contents(target)) == {
        *("config.json", "model.safetensors", "README.md", "gossamer.json"),
        *("notes.txt", "onnx/config.json"),
    }
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


def test_files_that_only_look_like_a_models_are_kept(tmp_path: Path) -> None:
    target = write(tmp_path / "model", BERT)
    mine = {"best.model", "tokenizer_notes.json", "faiss.index.json", "vocab.md", "model_v1.safetensors"}
    stale = {"pytorch_model.bin", "model-00001-of-00002.safetensors", "vocab.txt"}
    for name in mine | stale:
        (target / name).write_text(name)
    found = set(contents(gs.save(build(LONGFORMER), target)))
    assert mine <= found
    assert not stale & found


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_next_save_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    target = gs.save(build(BERT), tmp_path / "model")
    code = (
        "import os, sys, gossamer as gs\n"
        "gs.save  # imports it\n"
        "sys.modules['gossamer.checkpoints.save'].seal = lambda *_: os.kill(os.getpid(), 9)\n"
        "gs.save(gs.load(sys.argv[1]), sys.argv[1])\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(target)], check=False).returncode == -9
    (left,) = (one for one in tmp_path.iterdir() if one != target)
    process = left.name.split(".")[-3]
    running = left.with_name(left.name.replace(f".{process}.", f".{os.getpid()}."))
    running.mkdir()
    gs.save(build(BERT), target)
    assert set(tmp_path.iterdir()) == {target, running}


def test_second_rename_that_fails_puts_the_old_model_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = write(tmp_path / "model", BERT)
    before, real = contents(target), Path.rename

    def rename(self: Path, to: Path) -> Path:
        if self.suffix == ".new":
            raise OSError(errno.EIO, "Input/output error")
        return real(self, to)

    monkeypatch.setattr(replace_module, "_exchange", lambda new, target: False)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(gs.GossamerError, match="untouched"):
        gs.save(build(LONGFORMER), target)
    assert contents(target) == before
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


def test_saving_through_a_link_replaces_what_it_points_to(tmp_path: Path) -> None:
    target = write(tmp_path / "model", BERT)
    (tmp_path / "link").symlink_to(target)
    gs.save(build(LONGFORMER), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert gs.load(target).family == "longformer"


def test_directory_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(gs.InputError, match="holds files but no model"):
        gs.save(build(BERT), tmp_path)
    with pytest.raises(gs.InputError, match="is a file"):
        gs.save(build(BERT), tmp_path / "thesis.tex")
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


@pytest.mark.parametrize("config", [BERT, LONGFORMER], ids=["bert", "longformer"])
@pytest.mark.parametrize("family", [None, "gossamer"])
@pytest.mark.parametrize("head", [None, "masked-lm", SentenceEmbedding(pooling="cls", normalized=True)])
def test_load_save_load_is_bitwise(tmp_path: Path, config: dict[str, object], family: str | None, head: object) -> None:
    model = build(config, head=head, pooler=head != "masked-lm")
    gs.save(model, tmp_path / "one", family=family)
    first = gs.load(tmp_path / "one")
    gs.save(first, tmp_path / "two", family=family)
    second = gs.load(tmp_path / "two")
    assert same(first, model)
    assert same(second, first)
    assert first.architecture == second.architecture == model.architecture
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one["model.safetensors"] == two["model.safetensors"]
    assert json.loads(one["config.json"]) == json.loads(two["config.json"])


def test_family_that_cannot_hold_the_model_says_what_differs(tmp_path: Path) -> None:
    with pytest.raises(gs.InputError, match=r"family is 'bert', which cannot hold this model: .*global_projections"):
        gs.save(build(LONGFORMER), tmp_path / "model", family="bert")
    with pytest.raises(gs.InputError, match="electra, gossamer, gpt2, led, llama, longformer"):
        gs.save(build(BERT), tmp_path / "model", family="mamba")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("damage", ["flip", "shorten", "remove"])
def test_seal_finds_any_damage_to_the_weights(tmp_path: Path, damage: str) -> None:
    path = gs.save(build(BERT), tmp_path / "model") / "model.safetensors"
    whole = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] + (bytes([whole[-1] ^ 1]) if damage == "flip" else b""))
    with pytest.raises(gs.InputError, match=r"model\.safetensors: differs from gossamer\.json") as caught:
        gs.load(tmp_path / "model")
    assert "if another tool rewrote the model" in str(caught.value)


def test_everything_but_the_weights_may_be_edited(tmp_path: Path) -> None:
    target = gs.save(build(BERT), tmp_path / "model")
    (target / "notes.txt").write_text("mine")
    gs.save(build(BERT), target)
    (target / "notes.txt").write_text("mine, edited")
    edit_config(target, transformers_version="5.0")
    assert same(gs.load(target), build(BERT))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": {"../secret": {}}}', '{"files": {"model.safetensors": 3}}']
)
def test_damaged_seal_is_refused(tmp_path: Path, text: str) -> None:
    gs.save(build(BERT), tmp_path / "model")
    (tmp_path / "model" / "gossamer.json").write_text(text)
    with pytest.raises(gs.InputError, match=r"gossamer\.json"):
        gs.load(tmp_path / "model")


def test_card_tells_base_and_receipt_but_no_path(tmp_path: Path) -> None:
    directory = write(tmp_path / "tiny-bert", BERT)
    edit_config(directory, _name_or_path="someone/base-model")
    model = gs.load(directory)
    assert model.source == "tiny-bert"
    model.receipt = "read 16 tokens, reads 64"
    card = (gs.save(model, tmp_path / "longer") / "README.md").read_text()
    assert "Made from: tiny-bert." in card
    assert "Base that its config.json names: someone/base-model." in card
    assert "read 16 tokens, reads 64" in card
    assert str(tmp_path) not in card
    edit_config(directory, _name_or_path="/home/somebody/secret")
    card = (gs.save(gs.load(directory), tmp_path / "longer") / "README.md").read_text()
    assert "secret" not in card
