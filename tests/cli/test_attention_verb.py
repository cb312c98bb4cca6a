"""gossamer attention: the weights that capturing gives, as a page and as JSON."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.inspection import capture

Command = Callable[..., Any]
TEXT = "the cat saw the dog"


@pytest.mark.parametrize("head", [None, 1])
def test_json_holds_the_captured_weights(gossamer: Command, small: Path, head: int | None) -> None:
    asked = [] if head is None else ["--head", head]
    done = gossamer("attention", small, TEXT, "--layer", 0, "--top", 2, *asked, "--json")
    assert (done.code, done.err) == (0, "")
    model = gs.load(small)
    with torch.no_grad(), capture(model) as attention:
        model(**model.tokenizer(TEXT))
    weights = attention.rows(0, range(7))[0]
    weights = weights.mean(0) if head is None else weights[head]
    data = done.json
    assert (data["layer"], data["head"], data["source"]) == (0, head, "argument 1")
    assert data["tokens"] == ["[CLS]", "the", "cat", "saw", "the", "dog", "[SEP]"]
    assert [(row["row"], row["token"]) for row in data["rows"]] == list(enumerate(data["tokens"]))
    found = [[one["weight"] for one in row["attends_to"]] for row in data["rows"]]
    torch.testing.assert_close(torch.tensor(found), weights.topk(2).values)
    for row in data["rows"]:
        for one in row["attends_to"]:
            assert one["token"] == data["tokens"][one["key"]]
            assert one["weight"] == pytest.approx(float(weights[row["row"], one["key"]]))


def test_the_page_tells_chosen_tokens(gossamer: Command, small: Path) -> None:
    done = gossamer("attention", small, TEXT, "--token", "the", "--token", 5, "--top", 3)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:2] == [TEXT, "7 tokens, layer 1, the mean of all heads"]
    assert [line.split()[:2] for line in lines[4:]] == [["1", "the"], ["4", "the"], ["5", "dog"]]
    assert all(line.count("(") == 3 for line in lines[4:])
    many = gossamer("attention", small, "cat " * 28)
    assert many.out.splitlines()[-1].startswith("and 10 more tokens: name some with --token")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["/nowhere", "a", "--top", "0"], "--top is 0; it must be a whole number, 1 or more"),
        (["/nowhere", "a", "b"], "there are 2 texts; give one at a time"),
        (["/nowhere"], "there is no text; give TEXT"),
        (["{small}", "a cat", "--layer", "2"], "layer is 2; the model has 2, numbered from 0 to 1"),
        (["{small}", "a cat", "--head", "2"], "--head is 2; the layer has 2, numbered from 0 to 1"),
        (["{small}", "a cat", "--token", "dog"], "'dog', no token of this text nor a place from 0 to 3: [CLS]"),
        (["{small}", "a cat", "--token", "4"], "--token is '4', no token"),
        (["{small}", "word " * 40], "the model reads 32: shorten it"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_mistakes_are_told_in_one_line(gossamer: Command, small: Path, args: list[str], said: str) -> None:
    done = gossamer("attention", *[one.format(small=small) for one in args])
    assert (done.code, done.out) == (2, "")
    assert said in done.error
