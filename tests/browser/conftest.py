"""A real browser without a screen; pages that load anything, or say anything in its console, fail."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, through Playwright."""
    from playwright.sync_api import sync_playwright

    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        pytest.fail(f"there is none of {', '.join(NAMES)}: run `make test-browser`, which installs one", pytrace=False)
    with sync_playwright() as playwright:
        # A container has no user namespaces for the sandbox, and the pages are our own.
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """`opened(path, dark=, width=)`: the page, once it has shown what it holds."""
    contexts, said, asked = [], [], []

    def open_page(path: Path, *, dark: bool = False, width: int = 1400) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda problem: said.append(str(problem)))
        page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said, said
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked), asked
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts), asked
