"""Gossamer's vectors in LangChain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.embeddings import Embeddings

from gossamer.integrations.embedder import embedder, vectors
from gossamer.models import Model

__all__ = ["GossamerEmbeddings"]


class GossamerEmbeddings(Embeddings):
    """`langchain_core.embeddings.Embeddings` of a model, or of the one of this name: one vector a text of any length.

    `options` are those of the task `embed`: `long`, `normalize`, `batch_size`, `prompt` ... The model's prompts "query"
    and "document" are put before queries and documents where it has them.
    """

    def __init__(self, model: Model | str | Path, **options: Any) -> None:
        self.task = embedder(model)
        self.options = options

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text, [texts][size]; [] for none."""
        return vectors(self.task, texts, "document", self.options)

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query, [size]."""
        return vectors(self.task, [text], "query", self.options)[0]
