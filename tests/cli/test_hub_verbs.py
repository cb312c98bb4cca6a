"""Download and upload, through the hub's real client, against a server on loopback that speaks its protocol."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, Repository, serve_hub

import gossamer as gs

Command = Callable[..., Any]
WEIGHTS = bytes(range(256)) * 4096
PLAIN = {"config.json": b"{}", "tokenizer.json": b'{"a": 1}', "model.safetensors": WEIGHTS}
PARTS = ".model.download"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server, and the client's settings as it reads them from its environment when it is imported."""
    from huggingface_hub import constants

    settings = {
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(tmp_path / "cache" / "hub"),
        "HF_TOKEN_PATH": str(tmp_path / "cache" / "token"),
        "HF_HUB_DISABLE_XET": True,
    }
    with serve_hub() as served:
        settings["ENDPOINT"] = served.url
        settings["HUGGINGFACE_CO_URL_TEMPLATE"] = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(sys.modules["gossamer.checkpoints.download"], "PAUSE", 0.0)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.chdir(tmp_path)
        yield served


def publish(hub: Hub, files: dict[str, bytes], name: str = "me/model", **settings: bool) -> Repository:
    made = hub.repositories[name] = Repository(**settings)
    made.commit(files)
    return made


def folder_of(path: Path) -> dict[str, bytes]:
    return {one.relative_to(path).as_posix(): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}


@pytest.fixture
def token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub.token


def test_a_model_comes_whole_and_code_stays_there(hub: Hub, gossamer: Command) -> None:
    publish(
        hub,
        {**PLAIN, "1_Pooling/config.json": b"[]", "model.py": b"x", "pytorch_model.bin": b"x", ".gitattributes": b"x"},
    )
    done = gossamer("download", "me/model")
    assert done.code == 0, done.err
    assert folder_of(Path("model")) == {**PLAIN, "1_Pooling/config.json": b"[]"}
    assert "model.py: left out; --allow model.py brings it" in done.err
    assert not Path(PARTS).exists()
    again = gossamer("download", "me/model")
    assert (again.code, again.error.endswith("name a new directory, or remove this one first")) == (2, True)
    named = gossamer("download", "me/model", "--out", "b", "--allow", "pytorch_model.bin", "--json").json
    assert "pytorch_model.bin" in named["files"]
    assert named["left_out"] == [".gitattributes", "model.py"]


def test_names_to_allow_must_be_there(hub: Hub, gossamer: Command) -> None:
    publish(hub, {"config.json": b"{}", "pytorch_model.bin": b"x"})
    bare = gossamer("download", "me/model")
    assert bare.code == 2
    assert "no weights as safetensors, only pytorch_model.bin" in bare.error
    assert bare.error.endswith("--allow pytorch_model.bin")
    assert gossamer("download", "me/model", "--allow", "pytorch_model.bin").code == 0
    assert "no file 'x.bin' to allow" in gossamer("download", "me/model", "--out", "c", "--allow", "x.bin").error


def test_a_broken_connection_goes_on_where_it_broke(hub: Hub, gossamer: Command) -> None:
    publish(hub, PLAIN)
    hub.cut = [1000, 50_000]
    assert gossamer("download", "me/model").code == 0
    assert hub.ranges()[-1] == "bytes=51000-"
    assert folder_of(Path("model")) == PLAIN


@pytest.mark.parametrize("ignores_range", [False, True])
def test_a_broken_download_goes_on_in_the_next_call(hub: Hub, gossamer: Command, ignores_range: bool) -> None:
    publish(hub, PLAIN)
    hub.cut = [300_000, *[0] * 20]
    broken = gossamer("download", "me/model")
    assert broken.code == 2
    assert "the same command goes on from there" in broken.error
    assert not Path("model").exists()
    assert max(one.stat().st_size for one in Path(PARTS).iterdir()) == 300_000
    hub.cut, hub.asked, hub.ignores_range = [], [], ignores_range
    assert gossamer("download", "me/model").code == 0
    assert set(hub.ranges()) == {"bytes=300000-"}
    assert not any(path.endswith("config.json") for path in hub.paths("GET"))
    assert folder_of(Path("model")) == PLAIN
    assert not Path(PARTS).exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_wrong_digest_is_refused(hub: Hub, gossamer: Command, name: str) -> None:
    publish(hub, PLAIN)
    hub.wrong = name
    done = gossamer("download", "me/model")
    assert done.code == 2
    assert f"{name!r} is not the file that the hub lists (its digest differs), and was not kept" in done.error
    assert not Path("model").exists()
    hub.wrong = None
    assert gossamer("download", "me/model").code == 0
    assert folder_of(Path("model")) == PLAIN


@pytest.mark.parametrize(
    "name",
    [
        "../out.json",
        "/tmp/out.json",
        "a/../../out.json",
        "..\\out.json",
        "a\\b.json",
        "C:out.json",
        "a//b.json",
        "a\n.json",
    ],
)
def test_a_name_that_leads_outside_is_refused(hub: Hub, gossamer: Command, tmp_path: Path, name: str) -> None:
    publish(hub, {**PLAIN, name: b"{}"})
    done = gossamer("download", "me/model", "--out", "deep/model")
    assert done.code == 2
    assert "which leads outside of the folder" in done.error
    assert not any(one.is_file() for one in tmp_path.rglob("*"))


def test_links_are_not_followed(hub: Hub, gossamer: Command, tmp_path: Path) -> None:
    publish(hub, PLAIN)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Path("model").symlink_to(elsewhere)
    assert "is a link" in gossamer("download", "me/model").error
    Path("model").unlink()
    Path(PARTS).symlink_to(elsewhere)
    assert "is no folder of a download" in gossamer("download", "me/model").error
    assert list(elsewhere.iterdir()) == []


def test_revisions(hub: Hub, gossamer: Command) -> None:
    made = publish(hub, PLAIN)
    first = made.branches["main"]
    made.commit({**PLAIN, "config.json": b'{"new": 1}'}, "next")
    for revision, expected in (("next", b'{"new": 1}'), ("main", b"{}"), (first, b"{}")):
        out = Path(f"at-{revision}")
        assert gossamer("download", "me/model", "--revision", revision, "--out", out).code == 0
        assert (out / "config.json").read_bytes() == expected
    lost = gossamer("download", "me/model", "--revision", "lost")
    assert (lost.code, lost.error) == (
        2, "gossamer: 'me/model' has no revision 'lost'; name a branch, a tag or a commit of it",
    )  # fmt: skip


def test_closed_models_in_one_line(hub: Hub, gossamer: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub, PLAIN, "me/gated", gated=True)
    publish(hub, PLAIN, "me/private", private=True)
    for name, said in (
        ("me/gated", "is closed to you: accept its terms on the hub"),
        ("me/private", "is no model on the hub, or a private one"),
        ("me/nothing", "is no model on the hub, or a private one"),
    ):
        done = gossamer("download", name)
        assert (done.code, said in done.error) == (2, True), done.error
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    hub.echo = "hf_wrong"
    done = gossamer("download", "me/private")
    assert (done.code, "does not take your token (401)" in done.error) == (2, True), done.error
    assert "hf_wrong" not in done.err
    monkeypatch.setenv("HF_TOKEN", hub.token)
    for name in ("me/gated", "me/private"):
        assert gossamer("download", name).code == 0
    seen_by_storage = [sent for _, path, _, sent in hub.asked if path.startswith("/storage")]
    assert seen_by_storage
    assert set(seen_by_storage) == {None}


def test_the_token_file_is_read_and_nothing_is_told_of_it(
    hub: Hub, gossamer: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    publish(hub, PLAIN, private=True)
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache" / "token").write_text(hub.token + "\n")
    hub.cut = [1000]
    done = gossamer("download", "me/model")
    assert done.code == 0
    assert hub.token not in done.out + done.err + caplog.text


def test_a_token_of_no_header_is_not_told(hub: Hub, gossamer: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub, PLAIN)
    monkeypatch.setenv("HF_TOKEN", "hf_se\u00e9cret x")
    done = gossamer("download", "me/model")
    assert (done.code, "holds characters that no token has" in done.error, "hf_se" in done.err) == (2, True, False)


def test_offline(hub: Hub, gossamer: Command, small: Path, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for args in (("download", "me/model"), ("upload", small, "me/model")):
        done = gossamer(*args)
        assert (done.code, "HF_HUB_OFFLINE is set" in done.error) == (2, True), done.error
    assert hub.asked == []
    assert not Path("model").exists()


def test_an_upload_comes_back_the_same(hub: Hub, gossamer: Command, small: Path, token: str) -> None:
    (Path("mine")).mkdir()
    done = gossamer("upload", small, "me/model", "--private", "--message", "first", "--json")
    assert done.code == 0, done.err
    made = hub.repositories["me/model"]
    assert (made.private, made.messages[-1], done.json["is_new"]) == (True, "first", True)
    assert gossamer("download", "me/model").code == 0
    card = Path("model/README.md").read_text()
    assert 'gs.load("me/model")' in card
    assert 'SentenceTransformer("me/model")' in card
    back, sent = gs.load("model"), gs.load(small)
    assert all((back.state_dict()[name] == tensor).all() for name, tensor in sent.state_dict().items())
    gs.save(back, "model")  # its card is still known as Gossamer's: a person's would be told of, an error here
    assert token not in done.out + done.err


def test_an_upload_without_a_token(hub: Hub, gossamer: Command, small: Path) -> None:
    done = gossamer("upload", small, "me/model")
    assert done.code == 2
    assert "there is no token for the hub" in done.error
    assert "hf auth login" in done.error
    assert hub.asked == []


def test_an_upload_that_breaks_makes_no_commit(hub: Hub, gossamer: Command, small: Path, token: str) -> None:
    made = publish(hub, PLAIN)
    hub.put_status, hub.echo = 403, token
    done = gossamer("upload", small, "me/model")
    assert (done.code, "no commit was made" in done.error, token in done.err) == (2, True, False), done.error
    assert not any("/commit/" in path for path in hub.paths("POST"))
    hub.put_status, hub.commit_status = 200, 403
    done = gossamer("upload", small, "me/model")
    assert (done.code, token in done.err) == (2, False), done.error
    assert made.at() == PLAIN
    assert len(made.commits) == 1
    hub.commit_status = 200
    assert gossamer("upload", small, "me/model").code == 0
    assert len(made.commits) == 2
    assert made.at()["model.safetensors"] == (small / "model.safetensors").read_bytes()


def test_uploads_refused(hub: Hub, gossamer: Command, small: Path, token: str, tmp_path: Path) -> None:
    publish(hub, PLAIN, "other/model")
    publish(hub, PLAIN)
    commit = "0" * 40
    for args, said in (
        ((small, "other/model"), "your token does not allow this (403)"),
        ((small, "other/new"), "your token does not allow this (403)"),
        ((small, "me/model", "--private"), "is there and open to all"),
        ((small, "alone"), "is no id on the hub"),
        ((small, "me/model", "--revision", commit), "a commit, which nothing can be added to"),
        ((tmp_path, "me/model"), "holds no model"),
        ((small, "me/model", "--allow", "lost.bin"), "no file 'lost.bin' to allow"),
    ):
        done = gossamer("upload", *args)
        assert (done.code, said in done.error) == (2, True), done.error
    assert hub.repositories["me/model"].at() == hub.repositories["other/model"].at() == PLAIN


def copy_of(small: Path, target: Path) -> Path:
    gs.save(gs.load(small), target)
    return target


def test_what_goes_up(hub: Hub, gossamer: Command, small: Path, token: str, tmp_path: Path) -> None:
    made = publish(hub, {**PLAIN, "pytorch_model.bin": b"old", "notes.csv": b"theirs"})
    mine = copy_of(small, tmp_path / "mine")
    for name in ("train.py", "optimizer.pt", ".secret"):
        (mine / name).write_text("x")
    done = gossamer("upload", mine, "me/model", "--revision", "next", "--allow", "train.py")
    assert done.code == 0, done.err
    assert made.at() == {**PLAIN, "pytorch_model.bin": b"old", "notes.csv": b"theirs"}
    there = made.at("next")
    assert {"train.py", "notes.csv", "1_Pooling/config.json"} <= set(there)
    assert not {"optimizer.pt", ".secret", "pytorch_model.bin"} & set(there)
    assert "optimizer.pt: left out" in done.err
    request = gossamer("upload", mine, "me/model", "--create-pr", "--json")
    assert request.json["url"].endswith("discussions/1")
    assert made.at() == {**PLAIN, "pytorch_model.bin": b"old", "notes.csv": b"theirs"}
    (mine / "out.json").symlink_to("/etc/hostname")
    assert "is a link that leads outside" in gossamer("upload", mine, "me/model").error


def test_a_card_that_a_person_wrote_is_kept(
    hub: Hub, gossamer: Command, small: Path, token: str, tmp_path: Path
) -> None:
    made = publish(hub, {**PLAIN, "README.md": b"by hand"})
    kept = gossamer("upload", small, "me/model")
    assert "the one in me/model is kept" in kept.err
    assert made.at()["README.md"] == b"by hand"
    mine = copy_of(small, tmp_path / "mine")
    (mine / "README.md").write_text("mine")
    assert gossamer("upload", mine, "me/model").code == 0
    assert made.at()["README.md"] == b"mine"
    (mine / "README.md").unlink()
    publish(hub, PLAIN, "me/other")
    assert gossamer("upload", mine, "me/other").code == 0
    assert b'gs.load("me/other")' in hub.repositories["me/other"].at()["README.md"]
    assert gossamer("upload", small, "me/other").code == 0  # and Gossamer's own is replaced
    assert hub.repositories["me/other"].at()["README.md"] != b"by hand"


def test_load_takes_a_revision(hub: Hub, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = folder_of(small)
    made = publish(hub, {"config.json": b"{}"})
    made.commit(files, "next")
    assert gs.load("me/model", revision="next").architecture == gs.load(small).architecture
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked = []
    gs.load("me/model", revision="next")
    with pytest.raises(gs.InputError, match="'me/other' is no directory here"):
        gs.load("me/other")
    assert hub.asked == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(gs.InputError, match="has no revision 'lost'"):
        gs.load("me/model", revision="lost")
    with pytest.raises(gs.InputError, match="is a directory, which has none"):
        gs.load(small, revision="next")
    with pytest.raises(gs.InputError, match="revision is ''"):
        gs.load("me/model", revision="")


def test_load_refuses_a_wrong_digest_and_a_name_outside(hub: Hub, small: Path, tmp_path: Path) -> None:
    files = folder_of(small)
    publish(hub, files)
    hub.wrong = "model.safetensors"
    for _ in range(2):
        with pytest.raises(gs.InputError, match="is not the one that the hub lists"):
            gs.load("me/model")
    hub.wrong = None
    gs.load("me/model")
    publish(hub, {**files, "../../../../out.json": b"{}"}, "me/outside")
    with pytest.raises(gs.InputError):
        gs.load("me/outside")
    assert list(tmp_path.rglob("out.json")) == []


def test_the_environment_is_read_as_by_the_client(hub: Hub, tmp_path: Path) -> None:
    publish(hub, PLAIN, private=True)
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "gossamer", "download", "me/model", "--json"]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == sum(map(len, PLAIN.values()))
    assert folder_of(tmp_path / "model") == PLAIN
