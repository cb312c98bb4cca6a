"""What a look tells of a model's layers, against the weights that capturing gives, summed up by hand."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.inspection import capture
from gossamer.inspection.viewer import look as looking
from gossamer.inspection.viewer.kinds import KINDS, NEAR
from gossamer.inspection.viewer.look import Look, look
from gossamer.inspection.viewer.shown_text import read_text, written_text
from gossamer.models import Model
from gossamer.text import byte_tokenizer

TEXT = " ".join(f"word{i} the cat, and 12 dogs!" for i in range(60))


@pytest.fixture(scope="module")
def lengthened(minilm: Path) -> Model:
    return gs.lengthen(gs.load(minilm), to=1024, window=128)[0]


def looked(model: Model, text: str = TEXT, **options: Any) -> Look:
    return look(model, [read_text(model.tokenizer, text)], **options)  # type: ignore[arg-type]


def every_weight(model: Model, found: Look, layer: int) -> torch.Tensor:
    with torch.no_grad(), capture(model) as seen:
        model(torch.tensor([found.texts[0].ids]))
    return seen.rows(layer, range(len(found.texts[0])))[0].double()


def kind_of(query: int, key: int, special: tuple[bool, ...], is_global: set[int]) -> str:
    if key in is_global:
        return "global"
    if key == 0:
        return "first"
    if special[key]:
        return "special"
    apart = abs(query - key)
    return "itself" if not apart else "neighbours" if apart == 1 else "near" if apart <= NEAR else "distant"


@pytest.mark.parametrize("kind", ["plain", "lengthened"])
def test_every_number_is_that_of_the_weights(kind: str, minilm: Path, lengthened: Model) -> None:
    model = gs.load(minilm) if kind == "plain" else lengthened
    found = looked(model, TEXT[:700] if kind == "plain" else TEXT)
    text, (part,) = found.texts[0], found.parts
    n, is_global = len(text), set() if kind == "plain" else {0}
    assert (n > 512) == (kind == "lengthened")
    assert [one.number for one in part.layers] == list(range(6))
    for layer in (part.layers[0], part.layers[5]):
        weights = every_weight(model, found, layer.number)
        blocks = min(n, looking.BLOCKS)
        at = torch.arange(n) * blocks // n
        member = torch.nn.functional.one_hot(at, blocks).double()
        shares = member.T @ weights @ member / member.sum(0)[:, None]
        torch.testing.assert_close(layer.blocks.double(), shares, rtol=0, atol=1e-5)
        best = weights.topk(3).values
        torch.testing.assert_close(layer.weights.double(), best, rtol=0, atol=1e-6)
        torch.testing.assert_close(weights.gather(-1, layer.keys), best, rtol=0, atol=1e-6)
        names = [[KINDS.index(kind_of(i, j, text.special, is_global)) for j in range(n)] for i in range(n)]
        which = torch.tensor(names)
        kinds = torch.stack([(weights * (which == one)).sum((1, 2)) / n for one in range(len(KINDS))], dim=1)
        torch.testing.assert_close(layer.kinds.double(), kinds, rtol=0, atol=1e-5)
        torch.testing.assert_close(layer.kinds.sum(1), torch.ones(12), rtol=0, atol=1e-5)
        seen = member.T @ (weights[0] > 0).double() @ member / (member.sum(0)[:, None] * member.sum(0))
        torch.testing.assert_close(layer.seen[0].double(), seen, rtol=0, atol=1e-5)
        if kind == "plain":
            assert layer.whole is not None
            torch.testing.assert_close(layer.whole.double(), weights, rtol=0, atol=1e-6)
        else:
            assert layer.whole is None


def test_layers_are_told_while_the_model_reads_and_dropped(lengthened: Model) -> None:
    counts: list[tuple[int, int]] = []
    looked(lengthened, progress=lambda done, total: counts.append((done, total)))
    assert counts == [(i + 1, 6) for i in range(6)]
    told: list[int] = []
    ids = torch.randint(5, 999, (1, 600))
    with torch.no_grad(), capture(lengthened, [1, 5], each=told.append) as seen:
        lengthened(ids)
        assert told == [1]
        assert seen.layers == (5,)
    assert told == [1, 5]
    assert seen.layers == ()


def test_one_token_and_chosen_layers(minilm: Path) -> None:
    model = gs.load(minilm)
    text = dataclasses.replace(
        read_text(model.tokenizer, "a"), ids=(101,), tokens=("[CLS]",), spans=((0, 0),), special=(True,)
    )  # fmt: skip
    found = look(model, [text], {"main": [0, 5]})
    assert [one.number for one in found.parts[0].layers] == [0, 5]
    assert found.parts[0].layers[0].kinds[:, KINDS.index("first")].tolist() == pytest.approx([1.0] * 12)
    assert found.parts[0].layers[0].weights.shape == (12, 1, 1)


def test_written_text_is_linear_in_its_tokens_and_keeps_split_characters(minilm: Path) -> None:
    tokenizer = byte_tokenizer()
    ids = list("é😀 a".encode() * 3000)
    text = written_text(tokenizer, None, ids)  # seconds; prefixes of 24,000 tokens would take minutes
    assert text.text == "é😀 a" * 3000
    assert [text.text[start:stop] for start, stop in text.spans[:8]] == ["", "é", "", "", "", "😀", " ", "a"]


def test_texts_know_where_their_tokens_stand(minilm: Path) -> None:
    tokenizer = gs.load(minilm).tokenizer
    assert tokenizer is not None
    text = read_text(tokenizer, "Über 😀 cats")
    words = [text.text[start:stop] for start, stop in text.spans]
    assert words[0] == words[-1] == ""
    assert "".join(words) == "Über😀cats"
    assert text.special == (True, *[False] * (len(text) - 2), True)
    more = written_text(tokenizer, text, tokenizer("and dogs")["input_ids"][0, 1:-1].tolist())
    assert more.text.startswith(text.text)
    assert [more.text[start:stop].strip() for start, stop in more.spans[len(text) :]] == ["and", "dogs"]
    assert more.given == len(text)
