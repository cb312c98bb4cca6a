"""A model inside sentence-transformers, LangChain and Haystack: the vectors are Gossamer's own."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gossamer as gs
from gossamer.models import Model, SentenceEmbedding

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

TEXTS = ["A thread so light that it floats.", "Many of them, laid far apart, still hold.", "Fish."]
PROMPTS = {"query": "query: ", "passage": "passage: "}


@pytest.fixture(scope="module")
def model(minilm: Path) -> Model:
    return gs.load(minilm)


@pytest.fixture(scope="module")
def prompted(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same one, with prompts for queries and passages."""
    head = SentenceEmbedding(normalized=True, prompts=tuple(PROMPTS.items()))
    return gs.save(gs.load(minilm, head=head), tmp_path_factory.mktemp("prompted") / "model")


def test_sentence_transformers_runs_a_lengthened_model(model: Model, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from gossamer.integrations import GossamerModule

    long, _ = gs.lengthen(model, to=1024, window=64)
    texts = [*TEXTS, " ".join(TEXTS * 20)]
    wanted = gs.task("embed", long)(texts).vectors.numpy()
    inside = SentenceTransformer(modules=[GossamerModule(long)], device="cpu")
    assert np.abs(inside.encode(texts) - wanted).max() < 1e-5
    assert inside.get_embedding_dimension() == 384
    assert inside.encode([*TEXTS], prompt="query: ", convert_to_tensor=True).shape == (3, 384)
    states = inside.encode(TEXTS[:1], output_value="token_embeddings")[0]
    assert states.shape == (len(long.tokenizer(TEXTS[0])["input_ids"][0]), 384)
    inside.max_seq_length = 8
    assert np.abs(inside.encode(TEXTS[2]) - wanted[2]).max() < 1e-5
    inside.save(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    assert np.abs(again.encode(TEXTS[:2]) - inside.encode(TEXTS[:2])).max() < 1e-5


def test_sentence_transformers_trains_it(model: Model) -> None:
    """Its losses reach the weights."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    from gossamer.integrations import GossamerModule

    inside = SentenceTransformer(modules=[GossamerModule(model)], device="cpu")
    features = [inside.preprocess(list(some)) for some in (TEXTS[:2], TEXTS[1:])]
    CosineSimilarityLoss(inside)(features, torch.tensor([0.1, 0.9])).backward()
    assert model.embeddings.word.weight.grad.abs().sum() > 0
    model.zero_grad()


def test_langchain(model: Model, prompted: Path) -> None:
    from langchain_core.vectorstores import InMemoryVectorStore

    from gossamer.integrations import GossamerEmbeddings

    embeddings, embed = GossamerEmbeddings(model, batch_size=2), gs.task("embed", model)
    wanted = embed(TEXTS).vectors.tolist()
    assert np.allclose(embeddings.embed_documents(TEXTS), wanted, atol=1e-6)
    assert np.allclose(asyncio.run(embeddings.aembed_query(TEXTS[0])), wanted[0], atol=1e-6)
    assert embeddings.embed_documents([]) == []
    store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
    assert store.similarity_search("Seafood", k=1)[0].page_content == "Fish."
    named = GossamerEmbeddings(prompted)
    for found, prompt in ((named.embed_query("x"), "query: "), (named.embed_documents(["x"])[0], "passage: ")):
        assert np.allclose(found, embed("x", prompt=prompt).vectors[0], atol=1e-6)


def test_haystack(model: Model, minilm: Path, prompted: Path) -> None:
    from haystack import Document, Pipeline
    from haystack.components.retrievers import InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    from gossamer.integrations import GossamerDocumentEmbedder, GossamerTextEmbedder

    documents = [Document(content=text) for text in TEXTS]
    found = GossamerDocumentEmbedder(str(minilm), {"batch_size": 2}).run(documents)["documents"]
    assert np.allclose([one.embedding for one in found], gs.task("embed", model)(TEXTS).vectors, atol=1e-6)
    assert documents[0].embedding is None
    store = InMemoryDocumentStore()
    store.write_documents(found)
    pipeline = Pipeline()
    pipeline.add_component("embedder", GossamerTextEmbedder(str(minilm)))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    assert pipeline.run({"embedder": {"text": "Seafood"}})["retriever"]["documents"][0].content == "Fish."
    written = GossamerTextEmbedder(str(prompted), {"normalize": True}).to_dict()
    again = GossamerTextEmbedder.from_dict(written)
    assert (again.model, again.options) == (str(prompted), {"normalize": True})
    wanted = gs.task("embed", model)("x", prompt="query: ").vectors[0]
    assert np.allclose(again.run("x")["embedding"], wanted, atol=1e-6)


def test_what_is_refused(minilm: Path) -> None:
    from haystack import Document

    from gossamer.integrations import GossamerDocumentEmbedder, GossamerModule, GossamerTextEmbedder

    tagger = gs.load(minilm, head=gs.models.TokenClassification(labels=("O", "NAME")))
    with pytest.raises(gs.InputError, match="gives no vectors; load it with head='embed' or head='none'"):
        GossamerModule(tagger)
    bare: Any = gs.load(minilm)
    bare.tokenizer = None
    with pytest.raises(gs.InputError, match="no tokenizer"):
        GossamerModule(bare)
    with pytest.raises(gs.InputError, match="name a directory or an id"):
        GossamerTextEmbedder(bare)
    with pytest.raises(gs.InputError, match="document 1 has no content"):
        GossamerDocumentEmbedder(str(minilm)).run([Document(content="x"), Document()])


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("GossamerEmbeddings", "langchain_core", "langchain-core"),
        ("GossamerTextEmbedder", "haystack", "haystack-ai"),
        ("GossamerModule", "sentence_transformers", "sentence-transformers"),
    ],
)
def test_a_missing_package_is_named(name: str, module: str, package: str) -> None:
    """In a process of its own, where the package cannot be found; nothing of it is imported before it is asked for."""
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "import gossamer.integrations as integrations\n"
        f"try: integrations.{name}\n"
        "except Exception as problem: print(type(problem).__name__, problem)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    said = f"InputError {name} is for {package}; install it: pip install 'gossamer[integrations]'"
    assert done.stdout.strip() == said


def test_there_are_no_other_names() -> None:
    import gossamer.integrations as integrations

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        integrations.Nothing  # noqa: B018
