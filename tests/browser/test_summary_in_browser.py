"""The page of a summary in a real browser: it opens alone, folds by the keyboard, and fits narrow screens and paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gossamer as gs
from gossamer.inspection import summary

pytestmark = pytest.mark.browser
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def files(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """MiniLM alone, beside its lengthened form, and as a notebook has it, under a hostile name."""
    folder = tmp_path_factory.mktemp("pages")
    model = gs.load(minilm)
    long, _ = gs.lengthen(model, to=8192, window=512)
    model.source = long.source = HOSTILE
    first, other = (summary(one, (512, 4096, 8192)) for one in (model, long))
    paths = {name: folder / f"{name}.html" for name in ("one", "two", "notebook")}
    first.save(paths["one"])
    first.save(paths["two"], other)
    paths["notebook"].write_text(f"<!doctype html><body>{first._repr_html_()}</body>", encoding="utf-8")
    return paths


class Opened:
    """A page, and everything it asked for or complained of."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        self.page = browser.new_context(**settings).new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda problem: self.said.append(str(problem)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        assert self.asked == [path.as_uri()], "nothing but itself"
        assert self.said == []


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 400])
def test_it_opens_alone_and_fits(browser: Any, files: dict[str, Path], name: str, scheme: str, width: int) -> None:
    size = {"width": width, "height": 900}
    page = Opened(browser, files[name], viewport=size, color_scheme=scheme).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").first.inner_text().endswith(f"{HOSTILE} (bert)")
    assert page.locator("img, script").count() == 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
    small = page.locator("svg.small").first.bounding_box()
    assert (small["width"], small["height"]) == (26, 26)


CONTRAST = """() => {
  const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = rgb => rgb.slice(0, 3).map(channel).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const behind = one => {
    for (; one; one = one.parentElement) {
      const found = numbers(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return numbers(getComputedStyle(document.body).backgroundColor);
  };
  const poor = [];
  for (const one of document.querySelectorAll("body *:not(svg *):not(svg)")) {
    if (![...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const [a, b] = [light(numbers(getComputedStyle(one).color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([one.className, one.textContent.slice(0, 30), ratio]);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(browser: Any, files: dict[str, Path], scheme: str) -> None:
    """A contrast of 4.5, as WCAG 2.1 asks (1.4.3)."""
    page = Opened(browser, files["two"], color_scheme=scheme).page
    assert page.evaluate(CONTRAST) == []


def test_parts_open_by_the_keyboard(browser: Any, files: dict[str, Path]) -> None:
    page = Opened(browser, files["one"]).page
    closed = page.locator(".tree details:not([open]) > summary", has_text="layers 0–5")
    inside = page.locator(".tree .name", has_text="q, k, v")
    assert not inside.is_visible()
    closed.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert inside.is_visible()
    page.keyboard.press("Enter")
    assert not inside.is_visible()


def test_links_lead_to_their_sections(browser: Any, files: dict[str, Path]) -> None:
    page = Opened(browser, files["two"], viewport={"width": 1300, "height": 500}).page
    page.get_by_role("link", name="Parts").click()
    page.wait_for_function("document.querySelector('#parts').getBoundingClientRect().top < 500")


def test_on_paper_all_parts_are_open(browser: Any, files: dict[str, Path]) -> None:
    page = Opened(browser, files["one"]).page
    inside = page.locator(".tree .name", has_text="q, k, v")
    assert not inside.is_visible()
    page.emulate_media(media="print")
    assert inside.is_visible()
    assert not page.locator("nav").is_visible()
    assert page.pdf().startswith(b"%PDF")


def test_a_notebook_shows_it_in_a_frame(browser: Any, files: dict[str, Path]) -> None:
    page = Opened(browser, files["notebook"]).page
    frame = page.frame_locator("iframe")
    assert frame.locator("h1").inner_text() == f"{HOSTILE} (bert)"
    box = frame.locator("svg.small use").first.bounding_box()
    assert box is not None
    assert box["width"] > 20
