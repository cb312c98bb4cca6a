"""Questions about facts that are planted in speeches: who moved to which town in which year."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slim_speeches import by_speakers

Kind = Literal["name", "town", "year"]
KINDS: tuple[Kind, ...] = ("name", "town", "year")
QUESTIONS = {"name": "Who moved to {town}?", "town": "Where did {name} move?", "year": "When did {name} move?"}
GIVEN: dict[Kind, Kind] = {"name": "town", "town": "name", "year": "name"}
"""What a question for each kind names."""
FORMS = (
    "{name} moved to {town} in {year}.",
    "In {year}, while {other_name}, who had moved to {other_town} in {other_year}, was away, {name} moved to {town}.",
    "In {other_year}, while {name}, who had moved to {town} in {year}, was away, {other_name} moved to {other_town}.",
    "{name} and {other_name} moved in {year} and {other_year}, to {town} and {other_town}.",
    "{other_name} and {name} moved in {other_year} and {year}, to {other_town} and {town}.",
    "To {town} moved {name}, as {other_name} did to {other_town}, the former in {year} and the latter in {other_year}.",
    "To {other_town} moved {other_name}, as {name} did to {town}, the former in {other_year} and the latter in {year}.",
)
FIRST = (
    *("Ada", "Basil", "Clara", "Dora", "Edwin", "Flora", "Gilbert", "Hester", "Irma", "Jasper", "Kitty", "Lionel"),
    *("Mabel", "Nora", "Oscar", "Percy", "Quentin", "Rosa", "Silas", "Tilda", "Ursula", "Victor", "Wanda", "Yvonne"),
)
LAST = (
    *("Abbot", "Barlow", "Cotter", "Drake", "Ellery", "Finch", "Garnet", "Hobbs", "Ingram", "Jessop", "Kettle"),
    *("Larkin", "Mercer", "Nettle", "Orchard", "Pickett", "Quill", "Rudge", "Sorrel", "Thistle", "Upton", "Varley"),
    *("Wicker", "Yardley", "Ashdown", "Birch", "Crane", "Dobbin", "Everett", "Fenwick", "Gosling", "Harrow"),
)
TOWN_BEGINS = ("Ald", "Bran", "Cors", "Den", "Elm", "Fal", "Grim", "Hart", "Ips", "Kel", "Lang", "Mal", "Nor", "Ox")
TOWN_ENDS = ("bury", "combe", "field", "ham", "ley", "mere", "stead", "ton", "wick", "worth")
NUMBER = re.compile(r"\b\d{4}\b")


@dataclass(frozen=True, kw_only=True)
class Names:
    """Whom and what facts are about; nobody of those to learn from is in what is judged."""

    people: tuple[str, ...]
    towns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question of a context, its answer and where that begins; `depth`: how far in the fact stands, 0 to 1."""

    kind: Kind
    given: str
    question: str
    context: str
    answer: str
    start: int
    depth: float
    words: int

    def row(self) -> dict[str, Any]:
        """As SQuAD writes it."""
        answers = {"text": [self.answer], "answer_start": [self.start]}
        return {"question": self.question, "context": self.context, "answers": answers}


def names(judged: bool) -> Names:
    """A third of the last names and of the towns' beginnings is for what is judged."""

    def some(given: Sequence[str]) -> list[str]:
        return [one for i, one in enumerate(given) if (i % 3 == 0) == judged]

    return Names(
        people=tuple(f"{first} {last}" for last in some(LAST) for first in FIRST),
        towns=tuple(begin + end for begin in some(TOWN_BEGINS) for end in TOWN_ENDS),
    )


def planted(
    words: Sequence[int], depths: Sequence[float], judged: bool, seed: int, sentences: Sequence[int] = (4,)
) -> list[Question]:
    """A question for each number of words and depth, in speeches of speakers of its own.

    sentences: how many are planted, each with two facts; drawn from these.
    """
    rng, whom = random.Random(f"{seed} {judged}"), names(judged)
    texts = [re.findall(r"\S+", " ".join(one.text for one in some)) for some in _by_speaker(judged)]
    asked = zip(words, depths, strict=True)
    return [_planted(rng, whom, texts, count, depth, rng.choice(sentences)) for count, depth in asked]


def _by_speaker(judged: bool) -> list[list[Any]]:
    found: dict[str, list[Any]] = {}
    for speech in by_speakers(9)[judged]:
        found.setdefault(speech.speaker, []).append(speech)
    return list(found.values())


def _planted(
    rng: random.Random, whom: Names, texts: Sequence[Sequence[str]], count: int, depth: float, sentences: int
) -> Question:
    """One fact at this depth, and the others anywhere, each about somebody else."""
    size = 2 * sentences
    people, towns = rng.sample(whom.people, size), rng.sample(whom.towns, size)
    years = [str(year) for year in rng.sample(range(1500, 2000), size)]
    facts = [{"name": a, "town": b, "year": c} for a, b, c in zip(people, towns, years, strict=True)]
    said = [_said(rng, *facts[i : i + 2]) for i in range(0, size, 2)]
    long = [text for text in texts if len(text) >= count] or [max(texts, key=len)]
    text = rng.choice(long)
    begin = rng.randrange(len(text) - count + 1) if len(text) > count else 0
    parts = list(text[begin : begin + count])
    at = [round(depth * len(parts)), *(rng.randrange(len(parts) + 1) for _ in said[1:])]
    order = sorted(range(len(said)), key=lambda i: (at[i], i), reverse=True)
    for i in order:
        parts[at[i] : at[i]] = [said[i]]
    context = " ".join(parts)
    kind: Kind = rng.choice(KINDS)
    answer, given = facts[0][kind], facts[0][GIVEN[kind]]
    start = context.index(said[0]) + said[0].index(answer)
    question = QUESTIONS[kind].format(**facts[0])
    return Question(
        kind=kind, given=given, question=question, context=context, answer=answer, start=start, depth=depth, words=count
    )


def _said(rng: random.Random, fact: dict[str, str], other: dict[str, str]) -> str:
    return rng.choice(FORMS).format(**fact, **{f"other_{kind}": one for kind, one in other.items()})


def nearest(question: Question, whom: Names) -> str:
    """The name, town or year that stands nearest to what the question names; it knows all of them by heart."""
    where = question.context.index(question.given)
    middle = where + len(question.given) / 2
    if question.kind == "year":
        found = [(one.start(), one[0]) for one in NUMBER.finditer(question.context)]
    else:
        known = whom.people if question.kind == "name" else whom.towns
        pattern = re.compile("|".join(map(re.escape, known)))
        found = [(one.start(), one[0]) for one in pattern.finditer(question.context)]
    return min(found, key=lambda one: abs(one[0] + len(one[1]) / 2 - middle))[1]


def random_span(question: Question, rng: random.Random) -> str:
    """As many words as the answer has, from anywhere."""
    words, size = question.context.split(), len(question.answer.split())
    begin = rng.randrange(len(words) - size + 1)
    return " ".join(words[begin : begin + size]).strip(".,;:")
