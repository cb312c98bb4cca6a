"""The task zero-shot: how well labels that no model was trained on fit a text, by whether the text entails them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError, quote
from gossamer.models.model import Model
from gossamer.tasks.base import Long, Result, check_text, list_texts, of_the_call
from gossamer.tasks.classify import Label
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress
from gossamer.tasks.stream import Streaming
from gossamer.tasks.text_pairs import PairOptions, PairTask, TextTokens, TokenPair

__all__ = ["ZeroShot", "ZeroShotClassified"]

TEMPLATE = "This example is {}."
"""As in `transformers`."""


@dataclass(frozen=True, kw_only=True)
class ZeroShotClassified(Result):
    """The labels of each text, the highest score first; of `multi_label`, each label's score is of that alone.

    `tokens` and `passes` are, for each text, how long it is and in how many passes it was read with each label; `notes`
    are remarks, a line each.
    """

    labels: list[list[Label]]
    multi_label: bool
    tokens: list[int]
    passes: list[int]
    notes: list[str]


class ZeroShot(Streaming[ZeroShotClassified], PairTask):
    """Label texts with labels of one's own, by a model of natural-language inference.

    Each label becomes a hypothesis; its score is that of the model's label for entailment (Yin et al. 2019, arXiv
    1909.00161). Raises InputError for a model without such a label.
    """

    doing = "label"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        names = [label.lower() for label in self.head.labels]
        entailed = [i for i, name in enumerate(names) if name.startswith("entail")]
        if len(entailed) != 1 or len(names) < 2:
            raise InputError(
                f"the model's labels are {quote(', '.join(self.head.labels))}; zero-shot needs one that begins with "
                "'entail' beside others: take a model that was trained on entailment (MNLI)"
            )
        (self._entailment,) = entailed
        against = [i for i, name in enumerate(names) if name.startswith(("contradict", "not"))]
        # Without such a name the first or the last one, as `transformers` has it.
        self._contradiction = against[0] if against else -1 if self._entailment == 0 else 0

    @checks_options
    @torch.inference_mode()
    def __call__(
        self,
        texts: str | Sequence[str],
        labels: str | Sequence[str],
        template: str = TEMPLATE,
        multi_label: bool = False,
        top_k: int | None = None,
        long: Long = "chunk",
        max_length: int | None = None,
        stride: int | None = None,
        batch_tokens: int | None = None,
        progress: Progress | None = None,
    ) -> ZeroShotClassified:
        """The score of each of the `labels` for each text, all of them or the `top_k` highest.

        labels: a list, or one string of several between commas. template: the hypothesis, with {} for the label.
        multi_label: several labels may hold at once, so that each score is the softmax of entailment against
        contradiction; else scores are the softmax of entailment over the labels. Of a text that does not fit with its
        hypothesis, the passes' logits are averaged as in the task classify, whose other options these are.

        Raises InputError for empty texts, no labels, an empty or a repeated one, and a template without {}.
        """
        self._check(long, batch_tokens, max_length, stride)
        if not isinstance(multi_label, bool):
            raise InputError(f"multi_label is {quote(multi_label)}; it must be True or False")
        if top_k is not None:
            require_whole("top_k", top_k, of="labels", instead="None")
        with of_the_call():
            names = _labels(labels)
            filled = _filled(template, names)
            hypotheses = [TextTokens(*self._tokenize("label", i, text)) for i, text in enumerate(filled)]
        listed = list_texts("texts", texts)
        read_texts = [TextTokens(*self._tokenize("text", i, text)) for i, text in enumerate(listed)]
        pairs = [TokenPair(i, text, hypothesis) for i, text in enumerate(read_texts) for hypothesis in hypotheses]
        options = PairOptions(long=long, max_length=max_length, stride=stride, batch_tokens=batch_tokens)
        read = self._read_pairs(pairs, options, progress)
        by_text = (len(listed), len(names))
        scores = self._scores(read.logits.unflatten(0, by_text), multi_label or len(names) == 1)
        return ZeroShotClassified(
            labels=[_ranked(names, row)[:top_k] for row in scores.tolist()],
            multi_label=multi_label,
            tokens=[len(text.ids) for text in read_texts],
            passes=torch.tensor(read.passes).reshape(by_text).amax(dim=1).tolist(),
            notes=_first_of_each(read.notes),
        )

    def _scores(self, logits: Float[Tensor, "texts names labels"], alone: bool) -> Float[Tensor, "texts names"]:
        if alone:
            both = logits[..., [self._contradiction, self._entailment]]
            return both.softmax(dim=-1)[..., 1]
        return logits[..., self._entailment].softmax(dim=-1)

    def _chunked(self) -> str:
        return f"{super()._chunked()}, whose scores are averaged"


def _labels(labels: object) -> list[str]:
    """Labels of a list, or of a string between commas."""
    given = labels.split(",") if isinstance(labels, str) else list_texts("labels", labels)
    names = [check_text("label", i, label).strip() for i, label in enumerate(given)]
    for i, name in enumerate(names):
        if not name:
            raise InputError(f"label {i} of {quote(labels)} is empty: leave it out")
        if name in names[:i]:
            raise InputError(f"the label {quote(name)} is given twice: give each once")
    return names


def _filled(template: object, labels: Sequence[str]) -> list[str]:
    """The hypotheses."""
    if not isinstance(template, str) or "{}" not in template:
        raise InputError(f"template is {quote(template)}; it must hold {{}} where the label stands, as {TEMPLATE!r}")
    return [template.replace("{}", label) for label in labels]


def _ranked(labels: Sequence[str], scores: Sequence[float]) -> list[Label]:
    found = [Label(label=label, score=score) for label, score in zip(labels, scores, strict=True)]
    return sorted(found, key=lambda label: -label.score)


def _first_of_each(notes: Sequence[str]) -> list[str]:
    """One remark on each text, which is the same for all its labels but for the count of tokens."""
    return list({note.split(" with its pair")[0]: note for note in reversed(notes)}.values())[::-1]
