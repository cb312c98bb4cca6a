"""Gossamer's models inside other libraries: a few lines each, whose library is imported when its class is asked for.

`GossamerModule` for sentence-transformers, `GossamerEmbeddings` for LangChain, `GossamerTextEmbedder` and
`GossamerDocumentEmbedder` for Haystack.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gossamer.errors import InputError

if TYPE_CHECKING:
    from gossamer.integrations.haystack import GossamerDocumentEmbedder, GossamerTextEmbedder
    from gossamer.integrations.langchain import GossamerEmbeddings
    from gossamer.integrations.sentence_transformers import GossamerModule

__all__ = ["GossamerDocumentEmbedder", "GossamerEmbeddings", "GossamerModule", "GossamerTextEmbedder"]

_HOMES = {
    "GossamerDocumentEmbedder": ("haystack", "haystack", "haystack-ai"),
    "GossamerEmbeddings": ("langchain", "langchain_core", "langchain-core"),
    "GossamerModule": ("sentence_transformers", "sentence_transformers", "sentence-transformers"),
    "GossamerTextEmbedder": ("haystack", "haystack", "haystack-ai"),
}
"""For each class its file, the module that it needs, and what that is called in an index of packages."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gossamer.integrations' has no attribute {name!r}")
    file, needs, package = _HOMES[name]
    try:
        import_module(needs)
    except ModuleNotFoundError as problem:
        if problem.name != needs:
            raise
        raise InputError(f"{name} is for {package}; install it: pip install 'gossamer[integrations]'") from None
    return getattr(import_module(f"gossamer.integrations.{file}"), name)
