"""Tasks: text of any length in, an answer out."""

from __future__ import annotations

import inspect
from typing import Literal, overload

import torch

from gossamer.devices import find_device
from gossamer.errors import InputError, quote
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.tasks.answer import Answer, Answers, AnswerTask
from gossamer.tasks.base import Task
from gossamer.tasks.classify import Classified, Classify, Label
from gossamer.tasks.embed import Embed, EmbeddedPart, Embeddings
from gossamer.tasks.fill_mask import Fill, Filled, FillMask, Mask
from gossamer.tasks.generate import Generate
from gossamer.tasks.names import ALIASES, ELSEWHERE, TRANSLATION, refusal
from gossamer.tasks.rank import Rank, RankedText, RankedTexts
from gossamer.tasks.rewrite import Rewrite
from gossamer.tasks.score import Score, Scored
from gossamer.tasks.similar import Neighbour, Similar, SimilarTexts
from gossamer.tasks.stream import StreamedItem
from gossamer.tasks.summarize import Summarize
from gossamer.tasks.tag import Entity, Tag, Tagged
from gossamer.tasks.translate import Translate
from gossamer.tasks.write import Written
from gossamer.tasks.zero_shot import ZeroShot, ZeroShotClassified

__all__ = [
    "TASKS",
    "Answer",
    "AnswerTask",
    "Answers",
    "Classified",
    "Classify",
    "Embed",
    "EmbeddedPart",
    "Embeddings",
    "Entity",
    "Fill",
    "FillMask",
    "Filled",
    "Generate",
    "Label",
    "Mask",
    "Neighbour",
    "Rank",
    "RankedText",
    "RankedTexts",
    "Rewrite",
    "Score",
    "Scored",
    "Similar",
    "SimilarTexts",
    "StreamedItem",
    "Summarize",
    "Tag",
    "Tagged",
    "Translate",
    "Written",
    "ZeroShot",
    "ZeroShotClassified",
    "task",
]

TASKS: dict[str, type[Task]] = {
    "answer": AnswerTask,
    "classify": Classify,
    "embed": Embed,
    "fill-mask": FillMask,
    "generate": Generate,
    "rank": Rank,
    "rewrite": Rewrite,
    "score": Score,
    "similar": Similar,
    "summarize": Summarize,
    "tag": Tag,
    "translate": Translate,
    "zero-shot": ZeroShot,
}


Device = str | torch.device | None


@overload
def task(name: Literal["answer", "question-answering"], model: Model, device: Device = None) -> AnswerTask: ...
@overload
def task(
    name: Literal["classify", "text-classification", "sentiment-analysis"], model: Model, device: Device = None
) -> Classify: ...
@overload
def task(
    name: Literal["embed", "feature-extraction", "sentence-similarity"], model: Model, device: Device = None
) -> Embed: ...
@overload
def task(name: Literal["fill-mask"], model: Model, device: Device = None) -> FillMask: ...
@overload
def task(name: Literal["generate", "text-generation"], model: Model, device: Device = None) -> Generate: ...
@overload
def task(name: Literal["tag", "ner", "token-classification"], model: Model, device: Device = None) -> Tag: ...
@overload
def task(name: Literal["rank", "text-ranking"], model: Model, device: Device = None) -> Rank: ...
@overload
def task(name: Literal["rewrite", "text2text-generation"], model: Model, device: Device = None) -> Rewrite: ...
@overload
def task(name: Literal["summarize", "summarization"], model: Model, device: Device = None) -> Summarize: ...
@overload
def task(name: Literal["translate", "translation"], model: Model, device: Device = None) -> Translate: ...
@overload
def task(name: Literal["score"], model: Model, device: Device = None) -> Score: ...
@overload
def task(name: Literal["similar", "semantic-search"], model: Model, device: Device = None) -> Similar: ...
@overload
def task(name: Literal["zero-shot", "zero-shot-classification"], model: Model, device: Device = None) -> ZeroShot: ...
@overload
def task(name: str, model: Model, device: Device = None) -> Task: ...
def task(name: str | None = None, model: Model | None = None, device: Device = None, **options: object) -> Task:
    """The task of this name, or of the pipelines' name for it ("ner"), ready to be called with text.

    device: where the model computes; it is moved there, as `torch.nn.Module.to` does, and stays there. Options are the
    call's. Raises InputError for an unknown name or option, none at all, no model, and a device that is not there.
    """
    if name is None and isinstance(options.get("task"), str):
        raise InputError(f"the name of the task comes first: gossamer.task({options['task']!r}, model)")
    pair = TRANSLATION.fullmatch(name) if isinstance(name, str) else None
    own_name = "translate" if pair is not None else ALIASES.get(str(name), name)
    kind = TASKS.get(own_name) if isinstance(own_name, str) else None
    if kind is None:
        is_elsewhere = isinstance(name, str) and name.startswith(ELSEWHERE)
        said = "a task that Gossamer does not have; it has" if is_elsewhere else "it must be one of"
        raise InputError(f"task is {quote(name)}{',' if is_elsewhere else ';'} {said} {', '.join(sorted(TASKS))}")
    for option in options:
        known = list(inspect.signature(kind.__call__).parameters)
        raise InputError(refusal(option, known, called=f"what gossamer.task({name!r}, model) returns"))
    checked = check_model(model)
    where = find_device(device)
    checked = checked if where is None else checked.to(where)
    return kind(checked) if pair is None else Translate(checked, *pair.groups())
