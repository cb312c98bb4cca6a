"""How near generated texts come to references: ROUGE, BLEU and chrF, by the packages that results are reported with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from gossamer.errors import InputError, plural, quote

__all__ = ["GENERATED", "bleu", "check_generated", "chrf", "rouge", "score_generated"]

References = Sequence[str] | Sequence[Sequence[str]]
"""For each prediction a text, or several of which each is right."""

_ROUGE = ("rouge1", "rouge2", "rougeL")
_PACKAGES = {"rouge": ("rouge_score", "rouge-score"), "bleu": ("sacrebleu",) * 2, "chrf": ("sacrebleu",) * 2}
"""The module of each, and what it is installed as."""

GENERATED: Mapping[str, tuple[str, ...]] = MappingProxyType({"rouge": _ROUGE, "bleu": ("bleu",), "chrf": ("chrf",)})
"""What each of these metrics tells; more is better in all of them."""


def rouge(predictions: Sequence[str], references: References) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), the mean F1 of all predictions, from 0 to 1, by `rouge-score`.

    Words are stemmed; of several references the best counts, for each of the three. ROUGE-L is that of the whole text,
    not of its lines ("rougeLsum"). Raises InputError for no predictions, numbers that differ, what is no text, and
    where the package is missing.
    """
    pairs = _pairs(predictions, references)
    check_generated(["rouge"])
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(_ROUGE), use_stemmer=True)
    scores = [scorer.score_multi(right, text) for text, right in pairs]
    return {name: sum(one[name].fmeasure for one in scores) / len(scores) for name in _ROUGE}


def bleu(predictions: Sequence[str], references: References) -> float:
    """BLEU (Papineni et al. 2002) of all predictions together, from 0 to 100, by `sacrebleu` (Post 2018) as it is.

    Errors: as `rouge`.
    """
    pairs = _pairs(predictions, references)
    check_generated(["bleu"])
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU().corpus_score([text for text, _ in pairs], _streams(pairs)).score)


def chrf(predictions: Sequence[str], references: References) -> float:
    """chrF2 (Popović 2015), F of runs of up to 6 characters, from 0 to 100, by `sacrebleu`. Errors: as `rouge`."""
    pairs = _pairs(predictions, references)
    check_generated(["chrf"])
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score([text for text, _ in pairs], _streams(pairs)).score)


def check_generated(names: object) -> tuple[str, ...]:
    """The names of metrics as a tuple. InputError for one that is not known, or whose package is not installed."""
    listed = tuple(names) if isinstance(names, list | tuple) else None
    if listed is None or not all(isinstance(one, str) and one in GENERATED for one in listed):
        raise InputError(f"metrics is {quote(names)}; it must be a list of some of {', '.join(map(repr, GENERATED))}")
    for one in listed:
        module, package = _PACKAGES[one]
        if find_spec(module) is None:
            raise InputError(f"{one} is computed by {package}; install it: pip install 'gossamer[metrics]'")
    return listed


def score_generated(
    names: Sequence[str], predictions: Sequence[str], references: References
) -> dict[str, float | None]:
    """The numbers of these metrics by their names in `GENERATED`; None where there are no predictions."""
    if not predictions:
        return {told: None for name in names for told in GENERATED[name]}
    alone: dict[str, Callable[[Sequence[str], References], float]] = {"bleu": bleu, "chrf": chrf}
    scores: dict[str, float | None] = {}
    for name in names:
        scores |= rouge(predictions, references) if name == "rouge" else {name: alone[name](predictions, references)}
    return scores


def _pairs(predictions: Sequence[str], references: References) -> list[tuple[str, list[str]]]:
    """Each prediction beside its references."""
    if len(predictions) != len(references) or not predictions:
        raise InputError(
            f"{plural(len(predictions), 'prediction')} for {len(references)} references; give one for each, one or more"
        )
    pairs = []
    for i, (text, right) in enumerate(zip(predictions, references, strict=True)):
        listed = [right] if isinstance(right, str) else list(right)
        if not isinstance(text, str) or not listed or not all(isinstance(one, str) for one in listed):
            raise InputError(f"predictions[{i}] is {quote(text)}, its references {quote(right)}; both must be texts")
        pairs.append((text, listed))
    return pairs


def _streams(pairs: Sequence[tuple[str, list[str]]]) -> Any:
    """The first reference of all, then the second, None where there is none: as `sacrebleu` takes them."""
    most = max(len(right) for _, right in pairs)
    return [[right[i] if i < len(right) else None for _, right in pairs] for i in range(most)]
