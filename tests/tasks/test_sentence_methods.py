"""The names of sentence-transformers on the embed task: `encode` and what stands beside it, with its results."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_embedders import embedder
from torch.nn import functional as F

from gossamer.errors import InputError, Remark
from gossamer.models import SentenceEmbedding
from gossamer.tasks import Embed

TEXTS = ["abc", "hello world", "d"]


def test_encode_gives_an_array_of_the_task_s_vectors() -> None:
    embed = Embed(embedder())
    expected = embed(TEXTS).vectors
    found = embed.encode(TEXTS, batch_size=2, show_progress_bar=False, convert_to_numpy=True)
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.shape) == (np.float32, (3, 8))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    one = embed.encode("abc")
    assert one.shape == (8,)
    np.testing.assert_allclose(one, expected[0].numpy(), atol=1e-6)
    assert embed.encode([]).shape == (0, 8)


def test_numbers_and_switches_may_be_numpy_s() -> None:
    embed = Embed(embedder())
    found = embed.encode(TEXTS, batch_size=np.int64(2), normalize_embeddings=np.True_)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, embed.encode(TEXTS, batch_size=2, normalize_embeddings=True))
    assert embed.tokenizer is embed.model.tokenizer


def test_encode_gives_tensors_when_asked() -> None:
    embed = Embed(embedder())
    expected = embed(TEXTS).vectors
    table = embed.encode(TEXTS, convert_to_tensor=True)
    assert isinstance(table, torch.Tensor)
    torch.testing.assert_close(table, expected)
    rows = embed.encode(TEXTS, convert_to_numpy=False)
    assert isinstance(rows, list)
    torch.testing.assert_close(torch.stack(rows), expected)
    assert embed.encode("abc", convert_to_numpy=False).shape == (8,)


def test_encode_normalises_shortens_and_puts_prompts_before_texts(capsys: pytest.CaptureFixture[str]) -> None:
    prompts = (("query", "ask "), ("passage", "say "))
    embed = Embed(embedder(SentenceEmbedding(prompts=prompts)))
    torch.testing.assert_close(
        embed.encode(TEXTS, normalize_embeddings=True, convert_to_tensor=True), F.normalize(embed(TEXTS).vectors)
    )
    np.testing.assert_allclose(embed.encode(TEXTS, truncate_dim=3), embed(TEXTS).vectors[:, :3].numpy(), atol=1e-6)
    asked, said = (embed(TEXTS, prompt=prompt).vectors.numpy() for prompt in ("ask ", "say "))
    np.testing.assert_allclose(embed.encode(TEXTS, prompt_name="query"), asked, atol=1e-6)
    np.testing.assert_allclose(embed.encode(TEXTS, prompt="ask "), asked, atol=1e-6)
    np.testing.assert_allclose(embed.encode_query(TEXTS), asked, atol=1e-6)
    np.testing.assert_allclose(embed.encode_document(TEXTS, show_progress_bar=True), said, atol=1e-6)
    np.testing.assert_allclose(embed.encode_query(TEXTS, prompt="say "), said, atol=1e-6)
    plain = Embed(embedder())
    np.testing.assert_allclose(plain.encode_query(TEXTS), plain.encode_document(TEXTS))


def test_encode_cuts_long_texts_as_it_does_there_and_tells() -> None:
    embed = Embed(embedder(length=16))
    with pytest.warns(
        Remark, match="1 of 2 texts were cut to 16 tokens, the model's max_seq_length, as sentence-"
    ) as told:
        found = embed.encode(["abc", "abcdefghijklmnopqrst"])
    assert told[0].filename == __file__
    np.testing.assert_allclose(found[1], embed("abcdefghijklmn").vectors[0].numpy(), atol=1e-6)
    assert embed.max_seq_length == 16
    embed.max_seq_length = 8
    assert embed.max_seq_length == embed.model.tokenizer.max_length == 8
    assert embed("abcdefghij").passes == [2]
    with pytest.raises(InputError, match="max_length is 17; it must be a whole number of tokens from 1 to 16"):
        embed.max_seq_length = 17


def test_what_is_known_of_the_model() -> None:
    head = SentenceEmbedding(prompts=(("query", "ask "),), default_prompt_name="query", similarity_fn_name="dot")
    embed = Embed(embedder(head))
    assert (embed.prompts, embed.default_prompt_name, embed.similarity_fn_name) == ({"query": "ask "}, "query", "dot")
    assert (embed.get_sentence_embedding_dimension(), embed.device) == (8, torch.device("cpu"))


@pytest.mark.parametrize("measure", ["cosine", "dot", "euclidean", "manhattan"])
def test_vectors_are_compared_by_the_model_s_measure(measure: str) -> None:
    rules = {
        "cosine": lambda a, b: a @ b / (a.norm() * b.norm()),
        "dot": lambda a, b: a @ b,
        "euclidean": lambda a, b: -(a - b).norm(),
        "manhattan": lambda a, b: -(a - b).abs().sum(),
    }
    embed = Embed(embedder(SentenceEmbedding(similarity_fn_name=measure)))  # type: ignore[arg-type]
    a, b = torch.randn(3, 8), torch.randn(4, 8)
    expected = torch.stack([torch.stack([rules[measure](x, y) for y in b]) for x in a])
    torch.testing.assert_close(embed.similarity(a, b), expected)
    torch.testing.assert_close(embed.similarity(a.numpy(), b.tolist()), expected)
    torch.testing.assert_close(embed.similarity(list(a), b), expected)
    torch.testing.assert_close(embed.similarity(a[0], b), expected[:1])
    torch.testing.assert_close(embed.similarity_pairwise(a, b[:3]), expected.diagonal())
    assert embed.similarity([], b).shape == (0, 4)
    assert embed.similarity(a, torch.zeros(0, 8)).shape == (3, 0)
    assert embed.similarity([], []).shape == (0, 0)
    assert embed.similarity_pairwise([], []).shape == (0,)
    for wrong, said in (
        (a[:, :5], "vectors of 5 and of 8 numbers cannot be compared"),
        ("text", "the first vectors are 'text'; give a tensor or array of numbers"),
        (torch.zeros(1, 2, 3), r"the first vectors are torch.float32 \[1, 2, 3\]; give numbers"),
    ):
        with pytest.raises(InputError, match=said):
            embed.similarity(wrong, b)
    with pytest.raises(InputError, match="there are 3 and 4 vectors; pairs need as many of each"):
        embed.similarity_pairwise(a, b)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output_value": "token_embeddings"}, "output_value is 'token_embeddings'; encode gives 'sentence_embedding'"),
        ({"precision": "int8"}, "precision is 'int8'; Gossamer's encode gives 'float32'"),
        ({"device": "meta"}, "device is 'meta', but the model lies on 'cpu'; move it there first"),
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number of passes, 1 or more"),
        ({"batch_size": True}, "batch_size is True; it must be a whole number of passes, 1 or more"),
        ({"normalize_embeddings": "no"}, "normalize_embeddings is 'no'; it must be True or False"),
        ({"convert_to_tensor": 1}, "convert_to_tensor is 1; it must be True or False"),
        ({"prompt_name": "query"}, "prompt_name is 'query'; it must be None: there are no prompts"),
        ({"truncate_dim": 9}, "truncate_dim is 9"),
    ],
)
def test_what_encode_does_not_do_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Embed(embedder()).encode(TEXTS, **options)


@pytest.mark.parametrize(
    "given", [{"text": "a", "text_pair": "b"}, {"a", "b"}, b"a", None, 3], ids=["dict", "set", "bytes", "none", "int"]
)
def test_encode_refuses_what_every_task_refuses(given: Any) -> None:
    with pytest.raises(InputError, match="sentences is "):
        Embed(embedder()).encode(given)


@pytest.mark.parametrize("device", ["cuda:99", "cpu:foo", "nowhere"])
def test_a_device_that_is_not_there_is_one_line(device: str) -> None:
    with pytest.raises(InputError, match=f"device is '{device}', which is not there"):
        Embed(embedder()).encode("a", device=device)


def test_an_unknown_option_is_one_line() -> None:
    for call in (Embed(embedder()).encode, Embed(embedder()).encode_query):
        with pytest.raises(InputError, match="there is no option 'foo'"):
            call(["a"], foo=1)
