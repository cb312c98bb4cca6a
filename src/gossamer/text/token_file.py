"""Token files: the tokens of many documents in one file, mapped into memory, checked against their digest."""

import hashlib
import io
import json
import struct
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from gossamer.atomic_files import write_whole
from gossamer.errors import InputError, quote
from gossamer.regular_files import check_regular
from gossamer.text.documents import Document
from gossamer.text.encoding import count_ids, encode_documents, end_of_documents, fingerprint
from gossamer.text.tokenizer import Tokenizer

__all__ = ["TokenFile", "tokenize", "write_token_file"]

MAGIC = b"GSTOKENS"
VERSION = 2
START = 4096
"""Bytes before the tokens: the magic word, and the header as JSON, filled up with spaces."""
_RECORD = struct.Struct("<4Q")
_WIDTHS = {"uint16": 2, "uint32": 4}
_COUNTS = ("documents", "tokens", "text_bytes", "empty_documents", "vocabulary_size", "source_bytes")
_FIELDS = {"version", "dtype", *_COUNTS, "end_id", "tokenizer", "tokenizer_digest", "content", "sha256"}
_CHUNK = 2**22


class TokenFile:
    """The tokens of many documents, without special ones; read only, and from the disk as they are needed.

    Open one with `TokenFile.open`; `write_token_file` and the command `gossamer tokenize` make them. The file: 4,096
    bytes of header; all tokens, uint16 or uint32; for each document where its tokens end, the bytes of its text, the
    number of its source and its line there, four uint64; the sources' names as JSON. All of it is little-endian.
    """

    def __init__(self, name: str, data: np.ndarray) -> None:
        self._name = name
        self._data = data
        self._header = _read_header(name, data)
        _check_size(name, len(data), self._header)
        start, tokens, records, sources = _sections(self._header)
        self._tokens = np.asarray(data[start:tokens]).view(np.dtype(self._header["dtype"]).newbyteorder("<"))
        table = np.asarray(data[records - _RECORD.size * self.documents : records]).view("<u8").reshape(-1, 4)
        self._ends, self._bytes, self._source, self._line = (table[:, i].astype(np.int64) for i in range(4))
        self._sources = _read_sources(name, bytes(data[records:sources]))
        if self.documents and (self._ends[-1] != self.tokens or int(self._source.max()) >= len(self._sources)):
            raise _damaged(name, "its documents are not those of its header")

    @classmethod
    def open(cls, path: str | Path) -> "TokenFile":
        """Map a file into memory. InputError for one that is missing, of another kind, cut off or of another version.

        `check` finds what was altered inside.
        """
        path = Path(path)
        try:
            check_regular(path, "name a token file")
            if path.stat().st_size < START:
                raise _foreign(str(path))
            return cls(str(path), np.memmap(path, dtype=np.uint8, mode="r"))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; make it with gossamer tokenize") from None
        except OSError as problem:
            raise InputError(f"{path}: cannot be read ({problem.strerror}); check its permissions") from None

    @property
    def documents(self) -> int:
        """How many there are, none of them empty."""
        return int(self._header["documents"])

    @property
    def tokens(self) -> int:
        """Tokens of all documents."""
        return int(self._header["tokens"])

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of all the text."""
        return int(self._header["text_bytes"])

    @property
    def empty_documents(self) -> int:
        """Documents that had no tokens and were left out."""
        return int(self._header["empty_documents"])

    @property
    def vocabulary_size(self) -> int:
        """All ids are below this."""
        return int(self._header["vocabulary_size"])

    @property
    def end_id(self) -> int | None:
        """The token that ends a document, in its tokenizer; it is not among the tokens here."""
        end = self._header["end_id"]
        return None if end is None else int(end)

    @property
    def tokenizer_name(self) -> str:
        """What the tokenizer was called when the file was made."""
        return str(self._header["tokenizer"])

    @property
    def digest(self) -> str:
        """SHA-256 of everything in the file, as its header says; `check` compares."""
        return str(self._header["sha256"])

    @property
    def content(self) -> str:
        """SHA-256 of the tokens, where documents end, and the tokenizer; the names of sources are not in it."""
        return str(self._header["content"])

    @property
    def dtype(self) -> str:
        """How a token is stored: uint16 or uint32."""
        return str(self._header["dtype"])

    @property
    def all_tokens(self) -> np.ndarray:
        """Every token of every document [tokens]."""
        return self._tokens

    @property
    def ends(self) -> np.ndarray:
        """Where each document's tokens end, int64 [documents]."""
        return self._ends

    @property
    def byte_counts(self) -> np.ndarray:
        """UTF-8 bytes of the text of each document, int64 [documents]."""
        return self._bytes

    def document(self, i: int) -> np.ndarray:
        """The tokens of document i."""
        return self._tokens[self._ends[i - 1] if i else 0 : self._ends[self._known(i)]]

    def bytes_of(self, i: int) -> int:
        """UTF-8 bytes of the text that document i came from."""
        return int(self._bytes[self._known(i)])

    def name_of(self, i: int) -> str:
        """Where document i came from: `speech.txt`, `speeches.jsonl:3`."""
        line = int(self._line[self._known(i)])
        source = self._sources[self._source[i]]
        return f"{source}:{line}" if line else source

    def check(self) -> None:
        """Read everything and compare the digest; InputError where the file was altered or is damaged."""
        digest = hashlib.sha256()
        for at in range(START, len(self._data), _CHUNK):
            digest.update(self._data[at : at + _CHUNK].data)
        if _with_header(digest, self._header) != self.digest:
            raise _damaged(self._name, "its content is not what its digest says")

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """InputError where another tokenizer made the file."""
        if fingerprint(tokenizer) != self._header["tokenizer_digest"]:
            raise InputError(
                f"{self._name}: was made with the tokenizer {self.tokenizer_name!r} of {self.vocabulary_size:,} ids, "
                f"not with this one of {count_ids(tokenizer):,}; tokenize the texts again, or take its tokenizer"
            )

    def _known(self, i: int) -> int:
        if not 0 <= i < self.documents:
            raise InputError(f"document {i}: {self._name} has the documents 0 to {self.documents - 1:,}")
        return i

    def __repr__(self) -> str:
        return f"TokenFile({self._name!r}, documents={self.documents}, tokens={self.tokens})"


def write_token_file(
    path: str | Path,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    name: str = "",
    control_tokens: bool = True,
) -> TokenFile:
    """Tokenize documents into a file, which is there whole or not at all; memory does not grow with their length.

    Documents without tokens are left out. name: what the tokenizer is called. control_tokens: False reads the names of
    special tokens in a text ("<|endoftext|>") as letters. Raises InputError where there are no
    tokens, and OSError where the file cannot be written; what was at `path` then stays.
    """
    path = Path(path).resolve()

    def write(stream: IO[bytes]) -> None:
        with tempfile.TemporaryFile(dir=path.parent) as records:
            _write(stream, records, documents, tokenizer, name, control_tokens)

    write_whole(path, write)
    return TokenFile.open(path)


def tokenize(
    documents: Iterable[Document], tokenizer: Tokenizer, *, name: str = "", control_tokens: bool = True
) -> TokenFile:
    """Tokenize documents into memory: what `write_token_file` writes, without the file."""
    stream, records = io.BytesIO(), io.BytesIO()
    _write(stream, records, documents, tokenizer, name, control_tokens)
    return TokenFile(name or "the tokens", np.frombuffer(stream.getvalue(), dtype=np.uint8))


def _write(
    stream: IO[bytes],
    records: IO[bytes],
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    name: str,
    control_tokens: bool,
) -> None:
    size = count_ids(tokenizer)
    header: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
    header |= {"version": VERSION, "dtype": "uint16" if size <= 2**16 else "uint32", "vocabulary_size": size}
    header |= {"end_id": end_of_documents(tokenizer), "tokenizer_digest": fingerprint(tokenizer)}
    header["tokenizer"] = name[:200] or "unnamed"
    digest, content = hashlib.sha256(), hashlib.sha256(header["tokenizer_digest"].encode())
    stream.write(bytes(START))

    def put(data: bytes) -> None:
        stream.write(data)
        digest.update(data)

    def put_tokens(data: bytes) -> None:
        put(data)
        content.update(data)

    encoded = encode_documents(documents, tokenizer, control_tokens)
    sources = _write_tokens(put_tokens, records, encoded, header)
    if not header["tokens"]:
        raise InputError(f"the inputs have no tokens ({header['empty_documents']:,} empty documents); name others")
    put(bytes(_padding(header)))
    records.seek(0)
    while chunk := records.read(_CHUNK):
        put(chunk)
        content.update(np.frombuffer(chunk, dtype="<u8").reshape(-1, 4)[:, :2].tobytes())
    header["content"] = content.hexdigest()
    names = json.dumps(sources).encode()
    header["source_bytes"] = len(names)
    put(names)
    header["sha256"] = _with_header(digest, header)
    stream.seek(0)
    stream.write(_header_bytes(header))


def _write_tokens(
    put: Callable[[bytes], None],
    records: IO[bytes],
    encoded: Iterable[tuple[np.ndarray, int, Document | None]],
    header: dict[str, Any],
) -> list[str]:
    """Write tokens as they come, and a record for each document; counts go into the header. The names of sources."""
    dtype = np.dtype(header["dtype"]).newbyteorder("<")
    sources: dict[str, int] = {}
    tokens = size = 0
    for ids, count, ends in encoded:
        put(ids.astype(dtype).tobytes())
        tokens += len(ids)
        size += count
        if ends is None:
            continue
        if tokens > header["tokens"]:
            source = sources.setdefault(ends.source, len(sources))
            records.write(_RECORD.pack(tokens, size, source, ends.number))
            header["documents"] += 1
            header["text_bytes"] += size
        else:
            header["empty_documents"] += 1
        header["tokens"], size = tokens, 0
    return list(sources)


def _with_header(digest: Any, header: dict[str, Any]) -> str:
    """The digest of a whole file: what comes after the header, then the header without the digest itself."""
    digest.update(json.dumps({**header, "sha256": ""}, sort_keys=True).encode())
    return str(digest.hexdigest())


def _header_bytes(header: dict[str, Any]) -> bytes:
    return MAGIC + json.dumps(header, sort_keys=True).encode().ljust(START - len(MAGIC))


def _read_header(name: str, data: np.ndarray) -> dict[str, Any]:
    raw = bytes(data[:START])
    if len(raw) < START or not raw.startswith(MAGIC):
        raise _foreign(name)
    try:
        header = json.loads(raw[len(MAGIC) :])
    except (ValueError, RecursionError):
        raise _damaged(name, "its header is no JSON") from None
    if isinstance(header, dict) and header.get("version") != VERSION:
        raise InputError(
            f"{name}: is a token file of version {quote(header.get('version'))}, this Gossamer reads {VERSION}; "
            "make it again with gossamer tokenize"
        )
    if not _is_header(header) or _header_bytes(header) != raw:
        raise _damaged(name, "its header is not as it was written")
    return header


def _is_header(header: Any) -> bool:
    if not isinstance(header, dict) or set(header) != _FIELDS or header["dtype"] not in _WIDTHS:
        return False
    counts = [header[name] for name in (*_COUNTS, *(["end_id"] if header["end_id"] is not None else []))]
    texts = [header[name] for name in ("tokenizer", "tokenizer_digest", "content", "sha256")]
    whole = all(type(count) is int and 0 <= count < 2**62 for count in counts)
    return whole and all(isinstance(text, str) for text in texts)


def _padding(header: dict[str, Any]) -> int:
    """Bytes after the tokens, so that the records begin at a multiple of eight."""
    return -header["tokens"] * _WIDTHS[header["dtype"]] % 8


def _sections(header: dict[str, Any]) -> tuple[int, int, int, int]:
    """Where the tokens begin and end, and where the records and the sources end."""
    tokens = START + header["tokens"] * _WIDTHS[header["dtype"]]
    records = tokens + _padding(header) + header["documents"] * _RECORD.size
    return START, tokens, records, records + header["source_bytes"]


def _check_size(name: str, size: int, header: dict[str, Any]) -> None:
    expected = _sections(header)[-1]
    if size != expected:
        raise _damaged(name, f"it has {size:,} bytes, its header says {expected:,}")


def _read_sources(name: str, data: bytes) -> list[str]:
    try:
        sources = json.loads(data)
    except (ValueError, RecursionError):
        sources = None
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise _damaged(name, "the names of its sources are not as they were written")
    return sources


def _foreign(name: str) -> InputError:
    return InputError(f"{name}: is no token file; make one with gossamer tokenize")


def _damaged(name: str, what: str) -> InputError:
    return InputError(f"{name}: is cut off or was altered ({what}); make it again with gossamer tokenize")
