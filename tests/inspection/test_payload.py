"""What the page holds, read back as the page's script reads it."""

import base64
import gzip
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gossamer as gs
from gossamer.inspection.viewer.payload import FINE, MOST_HALVINGS, ROUGH, as_codes

HOSTILE = "</script><script>alert(1)</script><!-- <b>&amp; \u202eevil\x00 \u05e9\u05dc\u05d5\u05dd 👩‍👩‍👧 \u2028"


@pytest.mark.parametrize(("steps", "error"), [(FINE, 0.022), (ROUGH, 0.091)])
@given(weight=st.floats(2.0**-15, 1.0))
def test_a_code_tells_a_weight_closely(steps: int, error: float, weight: float) -> None:
    code = int(as_codes(torch.tensor(weight), steps))
    assert 1 <= code <= 255
    assert 2 ** ((code - 1) / steps - MOST_HALVINGS) == pytest.approx(weight, rel=error)


def test_the_ends_of_codes() -> None:
    given_ = torch.tensor([0.0, 1e-30, 2.0**-15.1, 2.0**-15, 1.0, 1.0000001])
    assert as_codes(given_).tolist() == [0, 0, 0, 1, 241, 241]
    assert as_codes(given_, ROUGH).tolist() == [0, 0, 0, 1, 61, 61]  # 1 is told as 1 by both


class Scripts(HTMLParser):
    """The scripts of a page by their ids, and what stands outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._id, self._in = "", "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._in, self._id = tag, dict(attrs).get("id") or f"own {len(self.scripts)}"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[self._id] = self.scripts.get(self._id, "") + data
        elif not self._in:
            self.text += data


def unpacked(scripts: Scripts, number: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(base64.b64decode(scripts.scripts[f"blob{number}"])), np.uint8)


def test_a_page_holds_what_was_seen(minilm: Path) -> None:
    seen = gs.inspect(gs.load(minilm), HOSTILE * 12, top=2, layers=[1, -1])
    page = Scripts(seen.page())
    described: dict[str, Any] = json.loads(page.scripts["described"])
    text = described["texts"][0]
    assert text["text"] == HOSTILE * 12
    units = text["text"].encode("utf-16-le", "surrogatepass")
    for (start, stop), first, last in zip(seen.look.texts[0].spans, text["starts"], text["stops"], strict=True):
        words = units[2 * first : 2 * last].decode("utf-16-le", "surrogatepass")
        assert words == seen.look.texts[0].text[start:stop]
    fine = np.array([0, *(2 ** ((code - 1) / FINE - MOST_HALVINGS) for code in range(1, 256))])
    for one, layer in zip(described["parts"][0]["layers"], seen.look.parts[0].layers, strict=True):
        heads, tokens, top = layer.keys.shape
        planes = unpacked(page, one["keys"]).astype(np.int64).reshape(2, heads, top, tokens)
        keys = (np.arange(tokens) + planes[0] + 256 * planes[1]) % 65536
        np.testing.assert_array_equal(keys, layer.keys.transpose(1, 2).numpy())
        codes = unpacked(page, one["weights"]).astype(np.int64).reshape(heads, top, tokens)
        codes = np.concatenate([codes[:, :1], codes[:, :1] - np.cumsum(codes[:, 1:], axis=1)], axis=1)
        np.testing.assert_allclose(fine[codes], layer.weights.transpose(1, 2).numpy(), rtol=0.022, atol=2**-14.9)
        assert one["map"] is None
        assert unpacked(page, one["whole"]).size == heads * tokens * tokens


def test_texts_names_and_tokens_show_as_text_and_nothing_is_loaded(minilm: Path) -> None:
    model = gs.load(minilm)
    model.source = "/models/<img src=x onerror=alert(1)>"
    page = gs.inspect(model, HOSTILE).page()
    found = Scripts(page)
    # Three of the page's own (the description, the library, the script) and the packed numbers.
    own = [attributes for tag, attributes in found.tags if tag == "script" and "id" not in attributes]
    assert len(own) == 2
    assert not any(tag == "img" or "src" in attributes or "href" in attributes for tag, attributes in found.tags)
    assert "onerror=alert(1)>" in found.text
    policy = next(attributes for _, attributes in found.tags if attributes.get("http-equiv"))
    assert str(policy["content"]).startswith("default-src 'none';")


def test_the_same_page_for_the_same_look(minilm: Path) -> None:
    model = gs.load(minilm)
    assert gs.inspect(model, "the cat").page() == gs.inspect(model, "the cat").page()
