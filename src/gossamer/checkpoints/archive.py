"""The zip archive that torch.save writes: its records are stored as they are, one beside the other."""

import zipfile
import zlib
from pathlib import Path

from gossamer.checkpoints.files import reason
from gossamer.errors import InputError, quote
from gossamer.regular_files import open_regular

__all__ = ["check_archive"]

_AGAIN = "copy or download it again"
_BEGINNING = b"PK\x03\x04"
_LEAST_HEADER = 30
"""Bytes before a record's own, without its name."""


def check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is, or whose records differ from their checksums.

    torch looks at neither. A file that is no archive, as torch wrote them before 1.6, passes.
    """
    try:
        with open_regular(path) as file:
            if file.read(len(_BEGINNING)) != _BEGINNING and not zipfile.is_zipfile(file):
                return
            with zipfile.ZipFile(file) as archive:
                _check_sizes(path, archive.infolist())
                damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"{path}: not a whole torch file ({reason(problem)}); {_AGAIN}") from None
    if damaged is not None:
        raise InputError(f"{path}: its record {quote(damaged)} is damaged (checksum differs); {_AGAIN}")


def _check_sizes(path: Path, records: list[zipfile.ZipInfo]) -> None:
    """Only stored records that lie beside one another: then all of them together are no more than the file."""
    end = 0
    for record in sorted(records, key=lambda entry: entry.header_offset):
        if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
            raise InputError(
                f"{path}: its record {quote(record.filename)} is compressed, which torch.save does to none; save the "
                "weights again with torch.save, or as model.safetensors"
            )
        if record.header_offset < end:
            raise InputError(f"{path}: its record {quote(record.filename)} lies over another one; {_AGAIN}")
        end = record.header_offset + _LEAST_HEADER + record.file_size
    if end > path.stat().st_size:
        raise InputError(f"{path}: its records claim {end:,} bytes, more than the file has; {_AGAIN}")
