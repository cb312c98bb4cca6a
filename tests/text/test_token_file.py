"""Token files: what is written is read, whole or not at all; and the tokenizer of bytes."""

import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torture import TORTURE

from gossamer.errors import InputError
from gossamer.text import (
    Document,
    TokenFile,
    Tokenizer,
    byte_tokenizer,
    is_byte_tokenizer,
    read_documents,
    speeches,
    tokenize,
    train_tokenizer,
    write_token_file,
)
from gossamer.text.encoding import cut

BYTES = byte_tokenizer()


def documents(*texts: str, source: str = "made") -> list[Document]:
    return [Document(source=source, number=i, parts=[text]) for i, text in enumerate(texts, 1)]


@given(st.text())
def test_ids_are_bytes_and_come_back(text: str) -> None:
    ids = BYTES.encode_plain(text)[0]
    assert ids == list(text.encode())
    assert BYTES.decode([*ids, 256]) == text


def test_names_of_special_tokens_are_text_and_any_bytes_decode() -> None:
    spelt = "a<|endoftext|>b<|mask|>"
    for tokenizer in (BYTES, byte_tokenizer(mask=True)):
        assert tokenizer.encode_plain(spelt)[0] == list(spelt.encode())
        assert is_byte_tokenizer(tokenizer)
        assert tokenizer.pad_id == 256
    assert (BYTES.vocabulary_size, BYTES.mask_id, byte_tokenizer(mask=True).mask_id) == (257, None, 257)
    every = np.random.default_rng(0).permutation(np.repeat(np.arange(256), 3))
    assert BYTES.decode(every) == bytes(every.tolist()).decode(errors="replace")


@pytest.mark.parametrize("mask", [False, True])
def test_the_byte_tokenizer_is_saved_as_any_other(tmp_path: Path, mask: bool) -> None:
    byte_tokenizer(mask=mask).save(tmp_path)
    text = " ".join(TORTURE)
    again = Tokenizer.load(tmp_path)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again.encode_plain(text)[0] == list(text.encode()) == theirs(text)["input_ids"]
    assert again.decode(text.encode()) == theirs.decode(list(text.encode())) == text
    assert is_byte_tokenizer(again)
    assert (again.pad_id, again.mask_id, theirs.eos_token_id) == (256, 257 if mask else None, 256)
    rows = again(["a", "bcd"])
    assert rows["input_ids"].tolist() == [[97, 256, 256], [98, 99, 100]]


def test_other_tokenizers_are_not_of_bytes(minilm: Path, families: Mapping[str, Path]) -> None:
    for directory in (minilm, *families.values()):
        assert not is_byte_tokenizer(Tokenizer.load(directory))


def test_a_file_holds_what_was_written(minilm: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(minilm)
    texts = ["Fellow citizens", "", "naïve 日本", " \n", "x"]
    file = write_token_file(tmp_path / "a.tokens", documents(*texts), tokenizer, name="MiniLM")
    kept = [text for text in texts if text.strip()]
    assert (file.documents, file.empty_documents, file.tokens) == (3, 2, file.all_tokens.size)
    for i, text in enumerate(kept):
        assert file.document(i).tolist() == tokenizer.encode_plain(text)[0]
        assert file.bytes_of(i) == len(text.encode())
    assert [file.name_of(i) for i in range(3)] == ["made:1", "made:3", "made:5"]
    assert (file.vocabulary_size, file.dtype, file.end_id) == (tokenizer.vocabulary_size, "uint16", tokenizer.sep_id)
    assert file.tokenizer_name == "MiniLM"
    assert file.text_bytes == sum(len(text.encode()) for text in kept)
    file.check()
    in_memory = tokenize(documents(*texts), tokenizer, name="MiniLM")
    in_memory.check()
    assert in_memory.digest == file.digest
    assert in_memory.digest != tokenize(documents(*texts, "more"), tokenizer, name="MiniLM").digest
    other_names = (Document(source="elsewhere", number=i, parts=[text]) for i, text in enumerate(kept))
    same = tokenize(other_names, tokenizer, name="all-MiniLM")
    assert same.digest != file.digest
    assert same.content == file.content != tokenize(documents(*kept[::-1]), tokenizer).content
    assert [path.name for path in tmp_path.iterdir()] == ["a.tokens"]
    for wrong in (-1, 3):
        with pytest.raises(InputError, match=f"document {wrong}: .* has the documents 0 to 2"):
            file.document(wrong)


def test_large_vocabularies_take_four_bytes_a_token() -> None:
    words = {f"w{i}": i for i in range(2**16 + 1)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    file = tokenize(documents("w65536 w1"), Tokenizer(backend))
    assert (file.dtype, file.document(0).tolist(), file.end_id) == ("uint32", [65536, 1], None)
    file.check()


def test_a_tokenizer_is_known_by_what_it_does(minilm: Path, families: Mapping[str, Path], tmp_path: Path) -> None:
    file = tokenize(documents("a"), Tokenizer.load(families["roberta"]), name="mine")
    Tokenizer.load(families["roberta"]).save(tmp_path)
    file.check_tokenizer(Tokenizer.load(tmp_path))
    for other in (Tokenizer.load(minilm), BYTES):
        with pytest.raises(InputError, match=r"was made with the tokenizer 'mine' of .* not with this one of"):
            file.check_tokenizer(other)
    tokenize(documents("a"), BYTES).check_tokenizer(byte_tokenizer(mask=True))


def test_long_texts_in_parts_have_the_ids_of_the_whole(minilm: Path, families: Mapping[str, Path]) -> None:
    """White space of all kinds between words, so that few places are good to cut at."""
    rng = np.random.default_rng(0)
    spaces = rng.choice([" ", "  ", " \n  ", "  \n\n", "   \t ", "   \n"], size=2000, p=[0.2, *[0.16] * 5])
    words = [*TORTURE[1:11], *speeches()[60].text[:20_000].split(" ")]
    text = "".join(word + space for word, space in zip(words, spaces, strict=False))
    trained = train_tokenizer([text] * 2, family="gpt2", vocabulary_size=400)  # with tokens of several white spaces
    assert any(one.count("Ġ") > 1 for one in trained.tokens(range(400)))
    for tokenizer in (trained, *(Tokenizer.load(one) for one in (minilm, *families.values()))):
        parts = list(cut([text[:7], text[7:9_000], text[9_000:]], 500))
        assert len(parts) > 25
        assert [one for part in parts for one in tokenizer.encode_plain(part)[0]] == tokenizer.encode_plain(text)[0]


@given(st.lists(st.text(alphabet="ab \n")), st.integers(1, 9))
def test_cut_texts_join_to_what_they_were(parts: list[str], size: int) -> None:
    assert "".join(cut(parts, size)) == "".join(parts)
    long = ["".join(parts) * 3, "c" * 5000, "d " * 3000]
    found = list(cut(long, size))
    assert "".join(found) == "".join(long)
    assert max(map(len, found)) <= size + 2**12


def test_long_documents_are_read_in_parts(tmp_path: Path) -> None:
    text = "".join(chr(97 + i % 26) + " " * (i % 7 == 0) for i in range(300_000))
    (tmp_path / "long.txt").write_text(text)
    file = tokenize(read_documents([tmp_path / "long.txt"]), BYTES)
    assert file.documents == 1
    assert bytes(file.document(0).tolist()).decode() == text
    assert file.bytes_of(0) == len(text)


def names_and_texts(*inputs: object, **options: str) -> list[tuple[str, str]]:
    found = read_documents([str(one) for one in inputs], **options)  # type: ignore[arg-type]
    return [(one.name.rpartition("/")[2], "".join(one.parts)) for one in found]


def test_documents_of_all_kinds_of_files(tmp_path: Path) -> None:
    text, lines = tmp_path / "a.txt", tmp_path / "b.jsonl"
    text.write_text("one\r\ntwo\u2028three\n\n \nfour\nfive\n\n", encoding="utf-8-sig")
    lines.write_text('{"body": "first"}\n\n{"body": "\u2028second", "text": "no"}\n', encoding="utf-8")
    assert names_and_texts(text) == [("a.txt", "one\r\ntwo\u2028three\n\n \nfour\nfive\n\n")]
    listed = names_and_texts(text, lines, split="lines", field="body")
    assert listed[:4] == [("a.txt:1", "one"), ("a.txt:2", "two\u2028three"), ("a.txt:5", "four"), ("a.txt:6", "five")]
    assert listed[4:] == [("b.jsonl:1", "first"), ("b.jsonl:3", "\u2028second")]
    paragraphs = [("a.txt:1", "one\r\ntwo\u2028three"), ("a.txt:5", "four\nfive")]
    assert names_and_texts(text, split="paragraphs") == paragraphs
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(text.read_bytes()))
    (tmp_path / "d.jsonl.xz").write_bytes(lzma.compress(lines.read_bytes()))
    packed = names_and_texts(tmp_path / "c.txt.gz", tmp_path / "d.jsonl.xz", field="body")
    assert [text for _, text in packed] == [names_and_texts(text)[0][1], "first", "\u2028second"]
    (first, *_, last) = names_and_texts("speeches")
    assert first == ("speeches:1", speeches()[0].text)
    assert last[0] == "speeches:233"


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("some words\n" * 1000)
    told: list[int] = []
    for one in read_documents([tmp_path / "a.txt", tmp_path / "b.txt"], told=told.append):
        assert "".join(one.parts) == "some words\n" * 1000
    assert sum(told) == 22_000


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("none.txt", None, "no such file; name a text or .jsonl file, or 'speeches'"),
        ("a.txt", b"good\n\xffbad", "is no UTF-8 text .it holds the byte 0xff.; convert it first"),
        ("a.txt.gz", gzip.compress(b"text" * 9, mtime=0)[:-9], "cannot be unpacked .*; it is cut off or damaged"),
        ("a.txt.gz", b"text", "cannot be unpacked"),
        ("a.txt.xz", lzma.compress(b"text" * 9)[:-20], "cannot be unpacked"),
        ("a.txt.xz", b"text", "cannot be unpacked"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', "a.jsonl:2: is no JSON"),
        ("a.jsonl", b'{"body": "a"}', "a.jsonl:1: the field 'text' is missing .it has: body."),
        ("a.jsonl", b'{"text": 3}', "a.jsonl:1: the field 'text' is 3; name the field that holds the text"),
        ("a.jsonl", b"[1]", r"a.jsonl:1: is \[1\]; each line must be an object with the field 'text'"),
        ("a.jsonl", b'{"text": "\\ud800"}', "a.jsonl:1: holds half a surrogate pair"),
        ("a.txt", b"", "the inputs have no tokens .1 empty documents."),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, name: str, content: bytes | None, match: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        write_token_file(tmp_path / "out.tokens", read_documents([tmp_path / name]), BYTES)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if path.name != name]


def test_inputs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory; name its files, such as"):
        read_documents([tmp_path])
    with pytest.raises(InputError, match=r"the inputs are \[\]; give a list of one file or more"):
        read_documents([])
    with pytest.raises(InputError, match="split is 'words'; it must be one of 'file', 'lines', 'paragraphs'"):
        read_documents(["speeches"], split="words")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "whole.tokens"
    write_token_file(path, documents("a text", "and another", "x" * 500), BYTES)
    return path


@given(data=st.data())
def test_a_spoilt_file_is_refused(whole: Path, data: st.DataObject) -> None:
    content = bytearray(whole.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 700))
    content[at] ^= data.draw(st.integers(1, 255))
    spoilt = whole.with_name("spoilt.tokens")
    spoilt.write_bytes(content)
    with pytest.raises(InputError) as caught:
        TokenFile.open(spoilt).check()
    assert str(spoilt) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(data=st.data())
def test_a_file_cut_off_or_too_long_is_refused_when_opened(whole: Path, data: st.DataObject) -> None:
    content = whole.read_bytes()
    spoilt = whole.with_name("cut.tokens")
    spoilt.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(InputError, match=r"is cut off or was altered|is no token file"):
        TokenFile.open(spoilt)
    spoilt.write_bytes(content + data.draw(st.binary(min_size=1, max_size=9)))
    with pytest.raises(InputError, match=r"is cut off or was altered .it has .* bytes, its header says"):
        TokenFile.open(spoilt)


@pytest.mark.parametrize("changed", [{"vocabulary_size": 300}, {"end_id": 0}, {"tokenizer": "another"}])
def test_an_altered_header_is_found(tmp_path: Path, whole: Path, changed: dict[str, object]) -> None:
    """As it would be written, so that only the digest tells; or not as it is written."""
    content = whole.read_bytes()
    header = {**json.loads(content[8:4096]), **changed}
    (tmp_path / "a").write_bytes(b"GSTOKENS" + json.dumps(header, sort_keys=True).encode().ljust(4088) + content[4096:])
    with pytest.raises(InputError, match=r"was altered .its content is not what its digest says"):
        TokenFile.open(tmp_path / "a").check()
    (tmp_path / "a").write_bytes(content[:4000] + b"\n" + content[4001:])
    with pytest.raises(InputError, match=r"was altered .its header is not as it was written"):
        TokenFile.open(tmp_path / "a")


def test_foreign_files_are_refused(tmp_path: Path, whole: Path) -> None:
    for content in (b"", b"text" * 5000, b"PK\x03\x04" + bytes(5000), b"GSTOKENS" + b"x" * 5000):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(InputError, match=r"is no token file|its header is no JSON"):
            TokenFile.open(tmp_path / "a")
    header = json.loads(whole.read_bytes()[8:4096])
    newer = b"GSTOKENS" + json.dumps({**header, "version": 3}).encode().ljust(4088)
    (tmp_path / "a").write_bytes(newer + whole.read_bytes()[4096:])
    with pytest.raises(InputError, match="is a token file of version 3, this Gossamer reads 2"):
        TokenFile.open(tmp_path / "a")
    with pytest.raises(InputError, match="is a directory; name a token file"):
        TokenFile.open(tmp_path)
    os.mkfifo(tmp_path / "pipe.tokens")
    with pytest.raises(InputError, match=r"pipe\.tokens: is a named pipe, not a regular file; name a token file"):
        TokenFile.open(tmp_path / "pipe.tokens")
    with pytest.raises(InputError, match="/dev/zero: is a device, not a regular file; name a token file"):
        TokenFile.open("/dev/zero")
    with pytest.raises(InputError, match="no such file; make it with gossamer tokenize"):
        TokenFile.open(tmp_path / "none")


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), InputError("no"), OSError(28, "No space left on device")])
def test_a_failure_leaves_what_was_there(tmp_path: Path, problem: BaseException) -> None:
    path = tmp_path / "a.tokens"
    before = write_token_file(path, documents("old"), BYTES).digest

    def failing() -> Iterator[Document]:
        yield from documents("new" * 2_000_000)
        raise problem

    with pytest.raises(type(problem), match="could not be written" if isinstance(problem, OSError) else None):
        write_token_file(path, failing(), BYTES)
    assert [one.name for one in tmp_path.iterdir()] == ["a.tokens"]
    assert TokenFile.open(path).digest == before


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_killed_at_any_moment_no_file_is_there(tmp_path: Path) -> None:
    script = (
        "import itertools, sys\n"
        "from gossamer.text import Document, byte_tokenizer, write_token_file\n"
        "def made():\n"
        "    for i in itertools.count():\n"
        "        if i == 40: print('on its way', flush=True)\n"
        "        yield Document(source='made', number=i, parts=['some text ' * 10_000])\n"
        "write_token_file(sys.argv[1], made(), byte_tokenizer())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "a.tokens"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"on its way\n"
    process.kill()
    process.wait()
    process.stdout.close()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a.tokens.")
    assert process.returncode == -signal.SIGKILL
    write_token_file(tmp_path / "a.tokens", documents("new"), BYTES)
    assert [one.name for one in tmp_path.iterdir()] == ["a.tokens"]


PEAK = """
import sys
from gossamer.text import Tokenizer, byte_tokenizer, read_documents, write_token_file
words = Tokenizer.load(sys.argv[3])
for large in (False, True):
    for tokenizer, split, size in ((byte_tokenizer(), "file", 40), (byte_tokenizer(), "lines", 8), (words, "file", 4)):
        with open(sys.argv[1], "w") as text:
            for _ in range(1000 * (size if large else 2)):
                text.write("some words, " * 83 + "\\n")
        write_token_file(sys.argv[2], read_documents([sys.argv[1]], split=split), tokenizer)
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_memory_does_not_grow_with_the_text(tmp_path: Path, minilm: Path) -> None:
    """As one document, as a document a line, and by a tokenizer of words: 40, 8 and 4 MB need what 2 MB do."""
    args = (tmp_path / "text", tmp_path / "a.tokens", minilm)
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *args], capture_output=True, text=True, check=True, env=environment
    )
    small, large = (int(line) / 1024 for line in done.stdout.splitlines())
    assert large - small < 16
