"""Gossamer's vectors in Haystack's pipelines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

from haystack import Document, component, default_from_dict, default_to_dict

from gossamer.errors import InputError, quote
from gossamer.integrations.embedder import embedder, vectors

__all__ = ["GossamerDocumentEmbedder", "GossamerTextEmbedder"]


class _Embedder:
    """A model by name, read when the pipeline warms up or first runs; `options` are those of the task `embed`."""

    def __init__(self, model: str, options: dict[str, Any] | None = None) -> None:
        if not isinstance(model, str):
            raise InputError(
                f"model is {quote(model)}; name a directory or an id, so that pipelines can be written down"
            )
        self.model, self.options = model, dict(options or {})
        self._task: Any = None

    def warm_up(self) -> None:
        """Read the model."""
        self._task = self._task or embedder(self.model)

    def to_dict(self) -> dict[str, Any]:
        """The component as a pipeline is written down."""
        return default_to_dict(self, model=self.model, options=self.options)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that `to_dict` wrote down."""
        return default_from_dict(cls, data)

    def _vectors(self, texts: list[str], kind: str) -> list[list[float]]:
        self.warm_up()
        return vectors(self._task, texts, kind, self.options)


@component
class GossamerTextEmbedder(_Embedder):
    """The vector of a query. `model`: a directory or an id; `options`: those of the task `embed`."""

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """`embedding`: [size]."""
        return {"embedding": self._vectors([text], "query")[0]}


@component
class GossamerDocumentEmbedder(_Embedder):
    """Documents with their vectors. `model`: a directory or an id; `options`: those of the task `embed`."""

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """`documents`: copies that have an `embedding`, [size]. Raises InputError for one without text."""
        texts = [one.content for one in documents]
        for i, text in enumerate(texts):
            if text is None:
                raise InputError(f"document {i} has no content; give documents of text")
        found = self._vectors([text for text in texts if text is not None], "document")
        return {"documents": [replace(one, embedding=vector) for one, vector in zip(documents, found, strict=True)]}
