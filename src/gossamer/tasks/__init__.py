"""Tasks: text of any length in, an answer out."""

from __future__ import annotations

from typing import Literal, overload

from gossamer.errors import InputError, quote
from gossamer.models.encoder import Model
from gossamer.tasks.answer import Answer, Answers, AnswerTask
from gossamer.tasks.base import Task
from gossamer.tasks.classify import Classified, Classify, Label
from gossamer.tasks.embed import Embed, EmbeddedPart, Embeddings
from gossamer.tasks.fill_mask import Fill, Filled, FillMask, Mask
from gossamer.tasks.generate import Generate
from gossamer.tasks.tag import Entity, Tag, Tagged

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
    "Tag",
    "Tagged",
    "task",
]

TASKS: dict[str, type[Task]] = {
    "answer": AnswerTask,
    "classify": Classify,
    "embed": Embed,
    "fill-mask": FillMask,
    "generate": Generate,
    "tag": Tag,
}


@overload
def task(name: Literal["answer"], model: Model) -> AnswerTask: ...
@overload
def task(name: Literal["classify"], model: Model) -> Classify: ...
@overload
def task(name: Literal["embed"], model: Model) -> Embed: ...
@overload
def task(name: Literal["fill-mask"], model: Model) -> FillMask: ...
@overload
def task(name: Literal["generate"], model: Model) -> Generate: ...
@overload
def task(name: Literal["tag"], model: Model) -> Tag: ...
@overload
def task(name: str, model: Model) -> Task: ...
def task(name: str, model: Model) -> Task:
    """The task of this name, ready to be called with text. Raises InputError for an unknown name or no model."""
    if not isinstance(name, str) or name not in TASKS:
        raise InputError(f"task is {quote(name)}; it must be one of {', '.join(sorted(TASKS))}")
    if not isinstance(model, Model):
        raise InputError(f"model is {quote(model)}, no model; give what gossamer.load or gossamer.lengthen returned")
    return TASKS[name](model)
