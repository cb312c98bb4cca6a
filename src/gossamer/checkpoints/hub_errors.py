"""What the hub and its client say, in one line each, without the token or a signed address."""

import logging as python_logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from gossamer.checkpoints.files import reason
from gossamer.errors import InputError, clean_line, quote

__all__ = ["check_token", "hub_errors", "quiet_client"]

_MOST_SAID = 200
_HEADER = re.compile(r"[!-~]+")
_LOG_IN = "log in (`hf auth login`) or set HF_TOKEN"


def check_token(*, needed: bool) -> None:
    """Refuse a token that no header can carry, and, where one is needed, that there is none.

    It is read as the client reads it: HF_TOKEN, then the token file. It is never told.
    """
    from huggingface_hub import get_token

    token = get_token()
    if token is None and needed:
        raise InputError(f"there is no token for the hub, and an upload needs one that may write: {_LOG_IN}")
    if token is not None and not _HEADER.fullmatch(token):
        raise InputError("the token in HF_TOKEN, or the token file, holds characters that no token has; set it anew")


@contextmanager
def hub_errors(name: str, revision: str | None = None, left: str = "") -> Iterator[None]:
    """Turns what fails in the client into an InputError; left: what is there now, told last."""
    import httpx

    try:
        yield
    except InputError:
        raise
    except (httpx.HTTPError, OSError, ValueError, RuntimeError) as problem:
        cause = problem.__cause__ if isinstance(problem, RuntimeError) else problem  # the client's own around another
        if not isinstance(cause, (httpx.HTTPError, OSError, ValueError)):
            raise
        line = _line(cause, name, revision)
        raise InputError(f"{line}; {left}" if left else line) from None


@contextmanager
def quiet_client() -> Iterator[None]:
    """Inside the block the client draws no bars and logs nothing: what fails is told in one line."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )  # fmt: skip

    level, had_bars = logging.get_verbosity(), not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.set_verbosity(python_logging.CRITICAL)
        disable_progress_bars()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if had_bars:
                enable_progress_bars()


def _line(problem: BaseException, name: str, revision: str | None) -> str:
    import httpx
    from huggingface_hub import errors

    if isinstance(problem, errors.GatedRepoError):
        return f"{quote(name)} is closed to you: accept its terms on the hub and {_LOG_IN}, then try again"
    if isinstance(problem, errors.RepositoryNotFoundError):
        return (
            f"{quote(name)} is no model on the hub, or a private one that your token does not open; check the name, "
            f"or {_LOG_IN}"
        )
    if isinstance(problem, errors.RevisionNotFoundError):
        return f"{quote(name)} has no revision {quote(revision or 'main')}; name a branch, a tag or a commit of it"
    if isinstance(problem, errors.OfflineModeIsEnabled):
        return f"{quote(name)} needs the hub, and HF_HUB_OFFLINE is set: unset it, or name a directory"
    if isinstance(problem, errors.HfHubHTTPError):
        said = clean_line(_without_token(problem.server_message or ""), _MOST_SAID)
        return f"{quote(name)}: {_of_status(problem.response.status_code)}{f' (it says: {said})' if said else ''}"
    if isinstance(problem, httpx.HTTPError):  # whose own words may hold a signed address
        return f"{quote(name)}: the hub cannot be reached ({type(problem).__name__}); check the connection, try again"
    return f"{quote(name)}: {_without_token(reason(problem))}"


def _of_status(status: int) -> str:
    if status == 401:
        return f"the hub does not take your token (401); {_LOG_IN}"
    if status == 403:
        return "your token does not allow this (403); take one that may, of somebody who may"
    if status in (409, 412):
        return f"the repository was changed meanwhile ({status}); try again"
    if status == 429:
        return "the hub wants fewer calls (429); try again later"
    return f"the hub answered with {status}; try again later"


def _without_token(text: str) -> str:
    from huggingface_hub import get_token

    token = get_token()
    return text.replace(token, "***") if token else text
