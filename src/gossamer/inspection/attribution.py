"""Which tokens a result comes from: gradient times input, and integrated gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError, quote
from gossamer.models import Model
from gossamer.models.evaluation import evaluating
from gossamer.models.global_tokens import default_global_mask
from gossamer.models.model_argument import check_model, check_one_text
from gossamer.models.output import Output

__all__ = ["Attribution", "Method", "attribute", "check_method"]

Method = Literal["gradient", "integrated"]
"""Gradient times input (Shrikumar et al. 2016, arXiv 1605.01713); integrated gradients (Sundararajan et al. 2017, arXiv
1703.01365, section 3) from word vectors of zeros."""


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """scores: what each token adds to `value`, [length]; those of "integrated" add up to value - baseline nearly.

    told: which result it is. baseline: the result for word vectors of zeros; None for "gradient".
    """

    scores: Float[Tensor, "length"]
    told: str
    value: float
    baseline: float | None


@dataclass(frozen=True)
class _Result:
    """One number of a model's output."""

    told: str
    read: Callable[[Output], Tensor]


def attribute(
    model: Model,
    input_ids: Int[Tensor, "1 length"],
    method: Method = "integrated",
    *,
    label: str | int | None = None,
    token: int | None = None,
    steps: int = 32,
    progress: Callable[[int, int], object] | None = None,
) -> Attribution:
    """What each token of one text adds to a result of the model.

    The result is a logit: of a text's `label` (name or number; the likeliest unless given), of a `label` of one
    `token`, the likeliest word in the place of one `token` of a masked language model (the first mask unless given), or
    the next word behind the text or behind one `token` of a causal one. Of other models it is how far the sentence
    vector, the state of one `token` or the mean of all states reaches in the direction that it has.
    steps: points of "integrated", each a forward and a backward pass; `progress(done, total)` counts them.

    Raises InputError for a label or a token there is not, for a text without a mask where no token was named, and for
    models of more than one text: with a decoder, or heads that answer questions or choose.
    """
    check_model(model)
    check_one_text(model, "attribution")
    check_method(method)
    require_whole("steps", steps)
    if token is not None and not (type(token) is int and 0 <= token < input_ids.shape[1]):
        raise InputError(f"token is {quote(token)}; the text has {input_ids.shape[1]}, numbered from 0")
    with evaluating(model):
        with torch.no_grad():
            words = model.embeddings.words(input_ids)
            whole = model(inputs_embeds=words, **_others(model, input_ids))
            result = _choose(model, input_ids, whole, label, token)
            value = float(result.read(whole))
        points = [1.0] if method == "gradient" else [(i + 0.5) / steps for i in range(steps)]
        gradient = torch.zeros_like(words)
        for i, share in enumerate(points):
            given = (words * share).requires_grad_()
            (found,) = torch.autograd.grad(result.read(model(inputs_embeds=given, **_others(model, input_ids))), given)
            gradient += found / len(points)
            if progress is not None:
                progress(i + 1, len(points))
        baseline = None
        if method == "integrated":
            with torch.no_grad():
                baseline = float(result.read(model(inputs_embeds=words * 0, **_others(model, input_ids))))
    return Attribution(
        scores=(gradient * words).sum(-1)[0].double().cpu(), told=result.told, value=value, baseline=baseline
    )


def check_method(method: object) -> None:
    """InputError for what is no `Method`."""
    if method not in get_args(Method):
        raise InputError(f"method is {quote(method)}; it must be one of {', '.join(get_args(Method))}")


def _others(model: Model, input_ids: Tensor) -> dict[str, Tensor]:
    """What a model reads off ids beside their words."""
    flagged = default_global_mask(model.architecture, input_ids, input_ids)
    return {} if flagged is None else {"global_mask": flagged}


def _choose(model: Model, input_ids: Tensor, whole: Output, label: str | int | None, token: int | None) -> _Result:
    head = model.architecture.head
    kind = "" if head is None else head.kind
    if kind in ("sequence-classification", "token-classification"):
        return _labelled(tuple(head.labels), kind, whole, label, token)  # type: ignore[union-attr]
    if kind in ("question-answering", "multiple-choice"):
        raise InputError(f"a model with the head {kind!r} reads more than one text; attribution takes one so far")
    if label is not None:
        raise InputError(f"label is {quote(label)}; a model with the head {kind or 'none'!r} has none: leave it out")
    if kind in ("masked-lm", "causal-lm"):
        return _word(model, kind, input_ids, whole, token)
    return _direction(kind, whole, token)


def _labelled(labels: tuple[str, ...], kind: str, whole: Output, label: str | int | None, token: int | None) -> _Result:
    assert whole.logits is not None
    logits = whole.logits[0]
    at = None
    if kind == "token-classification":
        at = int(logits.amax(-1).argmax()) if token is None else token
        logits = logits[at]
    if label is None:
        chosen = int(logits.argmax())
    elif isinstance(label, str):
        if label not in labels:
            raise InputError(f"label is {quote(label)}; the model has {', '.join(map(quote, labels))}")
        chosen = labels.index(label)
    else:
        chosen = label
        if not (type(chosen) is int and 0 <= chosen < len(labels)):
            raise InputError(f"label is {quote(label)}; the model has {len(labels)}, numbered from 0")
    where = "" if at is None else f" of token {at}"
    place = (0, chosen) if at is None else (0, at, chosen)
    return _Result(f"logit of {labels[chosen]!r}{where}", lambda out: out.logits[place])  # type: ignore[index]


def _word(model: Model, kind: str, input_ids: Tensor, whole: Output, token: int | None) -> _Result:
    assert whole.logits is not None
    if kind == "causal-lm":
        at = input_ids.shape[1] - 1 if token is None else token
        where = f"behind token {at}"
    else:
        mask = None if model.tokenizer is None else model.tokenizer.mask_id
        masks = [] if mask is None else (input_ids[0] == mask).nonzero()[:, 0].tolist()
        if token is None and not masks:
            raise InputError("the text has no mask, so nothing to explain: put one in, or name a token")
        at = masks[0] if token is None else token
        where = f"in place of token {at}"
    chosen = int(whole.logits[0, at].argmax())
    name = str(chosen) if model.tokenizer is None else repr(model.tokenizer.tokens([chosen])[0])
    return _Result(f"logit of {name} {where}", lambda out: out.logits[0, at, chosen])  # type: ignore[index]


def _direction(kind: str, whole: Output, token: int | None) -> _Result:
    def vector(out: Output) -> Tensor:
        if kind == "embed" and token is None and out.pooled is not None:
            return out.pooled[0]
        assert out.last_hidden_state is not None
        return out.last_hidden_state[0].mean(0) if token is None else out.last_hidden_state[0, token]

    told = f"state of token {token}" if token is not None else "sentence vector" if kind == "embed" else "mean state"
    direction = torch.nn.functional.normalize(vector(whole).detach(), dim=0)
    return _Result(f"{told}, along itself", lambda out: vector(out) @ direction)
