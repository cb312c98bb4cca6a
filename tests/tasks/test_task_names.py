"""What a user of pipelines types on the first day: names of tasks and options, and texts in every shape."""

import typing
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_embedders import embedder, tokenizer

import gossamer as gs
from gossamer.errors import InputError, plural
from gossamer.families import get_family
from gossamer.models import (
    CausalLM,
    Head,
    MaskedLM,
    Model,
    QuestionAnswering,
    ReplacedToken,
    SentenceEmbedding,
    SequenceClassification,
    TokenClassification,
)
from gossamer.models.decoders import decoder
from gossamer.tasks import TASKS

HEADS: dict[str, Head] = {
    "answer": QuestionAnswering(),
    "classify": SequenceClassification(labels=("no", "yes")),
    "embed": SentenceEmbedding(),
    "fill-mask": MaskedLM(),
    "tag": TokenClassification(labels=("O", "B-PER", "I-PER")),
    "generate": CausalLM(),
    "rank": SequenceClassification(labels=("fits",)),
    "similar": SentenceEmbedding(),
    "zero-shot": SequenceClassification(labels=("contradiction", "entailment")),
}
WRITING = ("rewrite", "summarize", "translate")
MORE: dict[str, list[Any]] = {"answer": ["a b c"], "zero-shot": [["a", "b"], "{}"]}
"""What a task is called with beside texts."""


def small(name: str) -> Any:
    """A model for the task of this name."""
    if name in HEADS and name != "generate":
        return embedder(HEADS[name])
    letters = tokenizer("$A")
    rows = letters.vocabulary_size
    torch.manual_seed(0)
    if name in WRITING:
        sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": rows}
        described = get_family("t5").read(sizes, head="seq2seq-lm")
        return Model(described, family="t5", tokenizer=letters.with_max_length(16)).eval()
    return Model(decoder(vocabulary_size=rows, length=16, hidden_size=8, heads=2, layers=1), tokenizer=letters).eval()


def ask(name: str, texts: Any, **options: Any) -> Any:
    """The task's answer for texts, with what else it needs."""
    if name in ("rank", "similar"):
        return gs.task(name, small(name))("a b c", texts, **options)
    return gs.task(name, small(name))(texts, *MORE.get(name, []), **options)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("ner", "tag"),
        ("token-classification", "tag"),
        ("text-classification", "classify"),
        ("sentiment-analysis", "classify"),
        ("question-answering", "answer"),
        ("feature-extraction", "embed"),
        ("sentence-similarity", "embed"),
        ("sentence-embedding", "embed"),
        ("text-generation", "generate"),
        ("fill-mask", "fill-mask"),
        ("text-ranking", "rank"),
        ("semantic-search", "similar"),
        ("zero-shot-classification", "zero-shot"),
        ("summarization", "summarize"),
        ("translation", "translate"),
        ("text2text-generation", "rewrite"),
    ],
)
def test_the_names_of_pipelines_are_names_of_tasks(theirs: str, ours: str) -> None:
    assert type(gs.task(theirs, small(ours))) is TASKS[ours]


@pytest.mark.parametrize("name", ["table-question-answering", "conversational"])
def test_tasks_that_are_not_there_are_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(InputError) as caught:
        gs.task(name, embedder())
    assert str(caught.value) == (
        f"task is {name!r}, a task that Gossamer does not have; it has {', '.join(sorted(TASKS))}"
    )
    with pytest.raises(InputError, match=r"^task is 'classifi'; it must be one of answer, classify"):
        gs.task("classifi", embedder())
    with pytest.raises(InputError, match=r"^model is None, no model; give what gossamer.load"):
        typing.cast(Any, gs.task)("ner")
    with pytest.raises(InputError, match=r"^the name of the task comes first: gossamer.task\('ner', model\)$"):
        typing.cast(Any, gs.task)(task="ner", model=embedder())


def test_the_model_is_moved_to_a_device() -> None:
    model = embedder()
    assert gs.task("embed", model, device="cpu").model is model
    assert gs.task("embed", model, device=torch.device("cpu")).model is model
    moved = gs.task("embed", model, device="meta").model
    assert {one.device.type for one in moved.parameters()} == {"meta"}
    for device in ("cpux", -1, "cuda:99"):
        with pytest.raises(InputError, match=f"^device is {device!r}, which is not there"):
            gs.task("embed", embedder(), device=device)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "option", "said"),
    [
        ("tag", "aggregation_strategy", "there is no option 'aggregation_strategy' here; it is aggregation"),
        ("answer", "max_answer_len", "there is no option 'max_answer_len' here; it is max_answer_tokens"),
        ("answer", "handle_impossible_answer", "there is no option 'handle_impossible_answer' here; it is impossible"),
        ("answer", "question", "there is no option 'question' here; it is questions"),
        ("generate", "max_length", "there is no option 'max_length' here; it is max_new_tokens"),
        ("classify", "batch_size", "there is no option 'batch_size': give batch_tokens"),
        ("fill-mask", "truncation", "there is no option 'truncation': give long=\"truncate\""),
        ("classify", "return_all_scores", "there is no option 'return_all_scores': all labels are given"),
        ("fill-mask", "topk", "there is no option 'topk'; the options are texts, top_k, targets, long, "),
        ("tag", "inputs", "there is no option 'inputs' here; it is texts"),
    ],
)
def test_an_option_of_pipelines_is_answered_in_one_line(name: str, option: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        ask(name, "a", **{option: 1})
    assert str(caught.value).startswith(said)


def test_options_are_given_to_the_call_and_not_to_the_task() -> None:
    task: Any = gs.task
    with pytest.raises(InputError) as caught:
        task("ner", small("tag"), aggregation_strategy="first")
    assert str(caught.value) == (
        "there is no option 'aggregation_strategy' here; give aggregation to what gossamer.task('ner', model) returns"
    )
    with pytest.raises(InputError, match=r"^there is no option 'top_k' here; give top_k to what"):
        task("classify", small("classify"), top_k=1)
    with pytest.raises(InputError, match=r"^there is no option 'torch_dtype': give dtype to gossamer.load$"):
        task("classify", small("classify"), torch_dtype="auto")


SHAPES = [
    ({"text": "a"}, "is .*, a dict; give one string or a list of strings$"),
    ({"a", "b"}, "is .*, a set; give one string or a list of strings$"),
    (frozenset("a"), "is .*, a frozenset; give one string or a list of strings$"),
    ({"a": 1}.keys(), "is .*, a dict_keys; give one string or a list of strings$"),
    (b"a", "is .*; give one string or a list of strings$"),
    (bytearray(b"a"), "is .*; give one string or a list of strings$"),
    (Path("a"), "is .*; give one string or a list of strings$"),
    (None, "is None; give one string or a list of strings$"),
    (5, "is 5; give one string or a list of strings$"),
    ((), "^there are no "),
    ([{"text": "a"}], "is .*, a dict; it must be a string$"),
    (["a", None], " 1 is None, a NoneType; it must be a string$"),
    ([["a", "b"]], " 0 is .*, a list; (it must be a string$|write a pair as)"),
]


@pytest.mark.parametrize("name", sorted(TASKS))
@pytest.mark.parametrize(("texts", "said"), SHAPES, ids=lambda one: type(one).__name__)
def test_what_is_no_text_is_refused_by_every_task(name: str, texts: Any, said: str) -> None:
    if name in ("classify", "answer", "score") and "a dict" in said:  # they take dicts, of their own fields
        texts, said = {"body": "a"}, "^(text|question) 0 is .*; where one is a dict, each must be "
    with pytest.raises(InputError, match=said) as caught:
        ask(name, texts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_texts_come_in_the_order_of_anything_that_has_one(name: str) -> None:
    texts = ["a[MASK]", "b[MASK]"] if name == "fill-mask" else ["a", "b"]
    options = {"seed": 1, "max_new_tokens": 2} if name == "generate" else {}
    expected = ask(name, texts, **options).to_dict()
    for shape in (tuple(texts), iter(texts), dict(enumerate(texts)).values()):
        found = ask(name, shape, **options).to_dict()
        same = [key for key in expected if key not in ("seconds", "tokens_per_second")]
        assert {key: found[key] for key in same} == {key: expected[key] for key in same}


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_head_that_tells_replaced_tokens_is_for_none_of_them(name: str) -> None:
    with pytest.raises(
        InputError, match=r"^the model's head is 'replaced-token'[,;] .*(take a|load it with)"
    ) as caught:
        gs.task(name, embedder(ReplacedToken()))
    assert "\n" not in str(caught.value)


def test_one_is_counted_as_one() -> None:
    assert [plural(n, "token") for n in (0, 1, 2048)] == ["0 tokens", "1 token", "2,048 tokens"]
    assert [plural(n, "pass", "passes") for n in (1, 2)] == ["1 pass", "2 passes"]
