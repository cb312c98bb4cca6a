"""Files made to hang, to fill the memory or to flood the terminal: refused at once, in one short line."""

import io
import json
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from fuzz_runner import watched
from fuzz_templates import make_odd
from tiny_checkpoints import BERT, as_bin, write

import gossamer as gs


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write(tmp_path / "bert", BERT)


def refusal(directory: Path) -> str:
    """The one line that loading ends with, before the watch runs out."""
    with watched(), pytest.raises(gs.InputError) as caught:
        gs.load(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


ODD = {"pipe": "a named pipe", "socket": "a socket", "directory": "a directory", "/dev/zero": "a device"}


def put_odd(path: Path, kind: str) -> str:
    """Something under a file's name that is no regular file; what it is called."""
    path.unlink(missing_ok=True)
    make_odd(path, kind)
    return ODD[kind]


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_what_is_no_file_is_not_read_as_weights(bert: Path, name: str, sealed: bool, kind: str) -> None:
    (bert / "model.safetensors").unlink()
    said = put_odd(bert / name, kind)
    if sealed:  # with the size that a pipe and a device have
        seal = {"format": 1, "files": {name: {"size": 0, "sha256": "0" * 64}}}
        (bert / "gossamer.json").write_text(json.dumps(seal))
    assert f"{bert / name}: is {said}" in refusal(bert)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("stem", ["model.safetensors", "pytorch_model.bin"])
def test_nor_as_a_shard_or_an_index(bert: Path, stem: str, kind: str) -> None:
    (bert / "model.safetensors").unlink()
    (bert / f"{stem}.index.json").write_text(json.dumps({"weight_map": {"a": "shard-1"}}))
    said = put_odd(bert / "shard-1", kind)
    assert f"{bert / 'shard-1'}: is {said}" in refusal(bert)
    said = put_odd(bert / f"{stem}.index.json", kind)
    assert f"{stem}.index.json: is {said}" in refusal(bert)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_link_that_leads_nowhere_is_named(bert: Path, name: str) -> None:
    (bert / "model.safetensors").unlink()
    (bert / name).symlink_to("not-there")
    assert f"{bert / name}: cannot be read" in refusal(bert)


def archive(records: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as made:
        for name, content in records.items():
            made.writestr(name, content)
    return buffer.getvalue()


def shared_record(content: bytes, kind: int, count: int) -> bytes:
    """An archive whose directory names one record again and again."""
    whole = archive({"archive/data/0": content}, kind)
    start, size = struct.unpack("<LL", whole[-10:-2])[::-1][0], struct.unpack("<L", whole[-10:-6])[0]
    entry = whole[start : start + size]
    return (
        whole[:start] + entry * count + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size * count, start, 0)
    )


def test_compressed_records_are_refused(bert: Path) -> None:
    path = as_bin(bert)
    with zipfile.ZipFile(path) as whole:
        records = {name: whole.read(name) for name in whole.namelist()}
    path.write_bytes(archive(records, zipfile.ZIP_DEFLATED))
    assert "is compressed, which torch.save does to none; save the weights again" in refusal(bert)


@pytest.mark.parametrize(("kind", "said"), [(zipfile.ZIP_DEFLATED, "compressed"), (zipfile.ZIP_STORED, "over another")])
def test_a_record_that_is_there_many_times_is_not_read(bert: Path, kind: int, said: str) -> None:
    as_bin(bert).write_bytes(shared_record(bytes(2**22), kind, 65_000))
    assert said in refusal(bert)


def test_records_that_claim_more_than_the_file_are_refused(bert: Path) -> None:
    path = as_bin(bert)
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as records:
        last = max(records.infolist(), key=lambda one: one.header_offset)
    entry = whole.rindex(last.filename.encode()) - 46
    struct.pack_into("<LL", whole, entry + 20, 2**31, 2**31)
    path.write_bytes(whole)
    assert "more than the file has" in refusal(bert)


def test_an_index_of_many_missing_shards_is_a_short_line(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    weight_map = {f"tensor.{i}": f"{'shard' * 30}-{i}.safetensors" for i in range(100_000)}
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    message = refusal(bert)
    assert "and 99,994 more, which are not there; copy or download it again" in message
    assert len(message) < 1500


def test_a_file_of_many_unknown_tensors_is_a_short_line(bert: Path) -> None:
    torch.save({f"\a\x1b[31m{i}": torch.ones(1) for i in range(3)}, as_bin(bert))
    assert "names a tensor" in refusal(bert)
    torch.save({f"{'tensor' * 40}.{i}": torch.ones(1) for i in range(3000)}, bert / "pytorch_model.bin")
    message = refusal(bert)
    assert "more" in message
    assert len(message) < 2000
