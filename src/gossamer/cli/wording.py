"""Advice in the command line's words: libraries say `long='chunk'`, a shell wants `--long chunk`."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["Wording", "wording"]

_PYTHON_ONLY = re.compile(r"\b(?:head|errors|cache|similarity)=(?:'\w+'|[\w.]+\([^)]*\))(?! \(in Python\))")
_ARGUMENT = re.compile(r"\b([a-z_]+)=('[^']*'|-?\d[\d.e-]*|True|False)(?![\w.])")
_CALLS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(?:gossamer|gs)\.lengthen\(model, to=(\d+)\)"), r"gossamer lengthen MODEL --to \1 --out DIR"),
    (re.compile(r"\bsource is (None|'[^']*') and target "), r"--from is \1 and --to "),
    (
        re.compile(r"\bname one with source and target, such as \('(\w+)', '(\w+)'\)"),
        r"name one, such as --from \1 --to \2",
    ),
    (re.compile(r"^target is (?=missing|'[^']*'[;,] (?:the|but the) model)"), "--to is "),
    (re.compile(r"^source is (?='[^']*', but the model)"), "--from is "),
    (re.compile(r"\bname the field that holds the text\b(?! with)"), "name the field that holds the text with --field"),
)


class Wording:
    """Puts messages into the words of the verb that runs: arguments of functions into its options."""

    def __init__(self) -> None:
        self._options: dict[str, Any] = {}

    def take(self, command: Any) -> None:
        """From here on, speak of this command's options."""
        self._options = {one.name: one for one in getattr(command, "params", ()) if one.opts[0].startswith("-")}

    def __call__(self, message: str) -> str:
        """The message with `name='value'` as `--name value` where the verb has that option.

        What it has no option for is said to be Python's, and calls of recipes become the verbs of their names.
        """
        for call, verb in _CALLS:
            message = call.sub(verb, message)
        message = _ARGUMENT.sub(self._option, message)
        return _PYTHON_ONLY.sub(r"\g<0> (in Python)", message)

    def _option(self, argument: re.Match[str]) -> str:
        name, value = argument[1], argument[2].strip("'")
        option = self._options.get(name)
        if option is None or not _takes(option, value):
            return argument[0]
        if option.is_flag:
            return next(iter(option.opts if value == "True" else option.secondary_opts), argument[0])
        return f"{max(option.opts, key=len)} {value}"


def _takes(option: Any, value: str) -> bool:
    """Whether the option's kind of value is this one: the number `--head N` of one verb is not `head='none'`."""
    if option.is_flag:
        return value in ("True", "False")
    return option.metavar != "N" or value.isdecimal()


wording = Wording()
"""That of this process."""
