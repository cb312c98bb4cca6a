"""gossamer.inspect: every kind of model, what is written, what is refused."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_models import byte_model
from family_models import ours
from generation_models import decoder

import gossamer as gs
from gossamer.errors import InputError
from gossamer.families import get_family
from gossamer.inspection import Inspection
from gossamer.inspection.viewer import inspection
from gossamer.models import Model
from gossamer.patterns import Window
from gossamer.text import byte_tokenizer


def writer() -> Model:
    """A decoder of bytes."""
    return decoder([Window(8, 0), Window(8, 0)], vocabulary=300, tokenizer=byte_tokenizer(), dtype=torch.float32)


def test_a_decoder_shows_what_it_wrote() -> None:
    seen = gs.inspect(writer(), "ab", new_tokens=5)
    text, (part,) = seen.look.texts[0], seen.look.parts
    assert (text.given, len(text)) == (2, 7)
    assert text.text.startswith("ab")
    assert part.title == "Self-attention"
    assert part.layers[0].pattern == "window 8+0"
    whole = part.layers[0].whole
    assert whole is not None
    assert torch.equal(whole, whole.tril())
    written = gs.generate(writer(), [[97, 98]], max_new_tokens=5, temperature=0.0).ids[0]
    assert text.ids == (97, 98, *written)


def two_texts(**sizes: int) -> Model:
    """A T5 that writes letters of a text."""
    torch.manual_seed(0)
    known = {
        "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 257, "eos_token_id": 256,
        "decoder_start_token_id": 256,
    }  # fmt: skip
    return Model(
        get_family("t5").read(known | sizes, head="seq2seq-lm"), family="t5", tokenizer=byte_tokenizer()
    ).eval()


def test_two_texts_have_three_parts() -> None:
    model = two_texts()
    seen = gs.inspect(model, "ada wrote", second_text="she did")
    first, second = seen.look.texts
    assert (len(first), second.text, second.ids) == (9, "she did", (256, *b"she did"))
    assert second.given == len(second)  # nothing of it was written
    assert second.special == (True, *[False] * 7)
    assert [(one.part, one.queries, one.keys, len(one.layers)) for one in seen.look.parts] == [
        ("main", 0, 0, 2), ("decoder", 1, 1, 2), ("cross", 1, 0, 2),
    ]  # fmt: skip
    cross = seen.look.parts[2].layers[1]
    assert cross.whole is not None
    assert cross.whole.shape == (2, 8, 9)
    torch.testing.assert_close(cross.whole.sum(-1), torch.ones(2, 8))
    written = gs.inspect(model, "ada wrote", new_tokens=4).look.texts[1]
    assert written.given == 1
    assert written.ids == (256, *gs.generate(model, ["ada wrote"], max_new_tokens=4).ids[0])
    with pytest.raises(InputError, match="second_text and new_tokens were both given"):
        gs.inspect(model, "ada", second_text="b", new_tokens=3)
    for asked in ({"importance": True}, {"attribution": "gradient"}):
        with pytest.raises(InputError, match="takes models of one text so far"):
            gs.inspect(model, "ada", second_text="b", **asked)  # type: ignore[arg-type]
    assert "Decoder to first text" in seen.page()


def test_layers_are_those_of_each_part() -> None:
    """An encoder of four layers and a decoder of two."""
    model = two_texts(num_layers=4, num_decoder_layers=2)
    for asked, wanted in (([-1], [[3], [1], [1]]), ([0, 1], [[0, 1]] * 3), ([3], [[3]]), ([-3, 3], [[1, 3]])):
        seen = gs.inspect(model, "ada", second_text="b", layers=asked)
        assert [[one.number for one in part.layers] for part in seen.look.parts] == wanted
    with pytest.raises(InputError, match="layers has 4; the model has 4, numbered from 0 to 3"):
        gs.inspect(model, "ada", second_text="b", layers=[4])


def test_what_is_refused_is_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "look", lambda *_, **__: pytest.fail("read before it was refused"))
    for model, asked, said in (
        (byte_model(), {"attribution": "magic"}, "method is 'magic'"),
        (byte_model(), {"label": "x"}, "give attribution too"),
        (byte_model(), {"importance": []}, "give True, or a list of texts"),
        (two_texts(), {"attribution": "gradient"}, "takes models of one text so far"),
        (two_texts(), {"importance": True}, "takes models of one text so far"),
        (ours("bert", "multiple-choice"), {}, "a text for each choice"),
    ):
        model.tokenizer = byte_tokenizer()
        with pytest.raises(InputError, match=said):
            gs.inspect(model, "ab", **asked)  # type: ignore[arg-type]


def test_titles_are_lines_of_visible_characters() -> None:
    seen = gs.inspect(byte_model(), "ab\u202egnp.exe \x00\n end")
    assert seen.title.endswith("ab\N{REPLACEMENT CHARACTER}gnp.exe \N{REPLACEMENT CHARACTER} end")


def test_pictures_and_pages_are_written_whole(tmp_path: Path) -> None:
    seen = gs.inspect(byte_model(), "a cat sat")
    assert isinstance(seen, Inspection)
    seen.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == seen.page()
    seen.save(tmp_path / "heads.svg", of="heads")
    seen.save(tmp_path / "map.svg", layer=0, head=1)
    assert "layer 0, head 1" in (tmp_path / "map.svg").read_text()
    seen.save(tmp_path / "map.PNG")
    assert (tmp_path / "map.PNG").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir(tmp_path)) == ["heads.svg", "map.PNG", "map.svg", "page.html"]
    assert seen._repr_html_().count("srcdoc=") == 1
    with pytest.raises(InputError, match=r"must end in .html, .svg or .png"):
        seen.save(tmp_path / "page.pdf")
    with pytest.raises(InputError, match="there is no directory"):
        seen.save(tmp_path / "nowhere" / "page.html")
    for wrong, said in (({"layer": 7}, "layer is 7; looked at were 0, 1"), ({"head": 2}, "head is 2; the layer has 2")):
        with pytest.raises(InputError, match=said):
            seen.figure(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="of is 'cross'; there are main, heads"):
        seen.figure(of="cross")


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (7, {}, "text is 7; give one string"),
        ("a" * 50, {}, "the text has 50 tokens; the model reads 40: shorten it, or lengthen the model"),
        ("", {}, "the text has no tokens"),
        ("a", {"top": 0}, "top is 0; it must be a whole number of keys, 1 or more"),
        ("a", {"layers": [2]}, "layers has 2; the model has 2, numbered from 0 to 1"),
        ("a", {"second_text": "b"}, "second_text was given; the model reads one text"),
        ("a", {"label": "x"}, "label and token say which result attribution is of"),
        ("a", {"attribution": "magic"}, "method is 'magic'; it must be one of gradient, integrated"),
        ("a", {"importance": "texts"}, "importance is 'texts'; give True, or a list of texts"),
        ("a", {"layers": 0}, "layers is 0; give a list of numbers"),
        ("a", {"layers": []}, r"layers is \[\]; give a list of numbers"),
    ],
)
def test_what_is_refused(text: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        gs.inspect(byte_model(), text, **options)


def test_models_without_weights_to_show_are_refused() -> None:
    model = byte_model()
    model.tokenizer = None
    with pytest.raises(InputError, match="the model has no tokenizer"):
        gs.inspect(model, "a")
    with pytest.raises(InputError, match="load it first"):
        gs.inspect("a/model", "a")  # type: ignore[arg-type]


def test_the_model_is_left_as_it_was() -> None:
    model = byte_model().train()
    gs.inspect(model, "a cat", importance=True, attribution="gradient")
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(one.hook is None for one in model.attention)
