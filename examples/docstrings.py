"""What the examples read: the documentation of scipy's functions, which scikit-learn brings along."""

import hashlib
import inspect
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from importlib import import_module

MODULES = ("cluster.hierarchy", "fft", "integrate", "interpolate", "linalg", "ndimage", "optimize", "signal")
MODULES += ("sparse", "spatial.distance", "special", "stats")


@dataclass(frozen=True)
class Function:
    """A function, the part of scipy that it is from, and what its documentation says."""

    name: str
    part: str
    summary: str
    details: str
    parameters: dict[str, str] = field(compare=False)


def functions():
    """Functions with a summary, each once, at most 80 of a part, in an order that tells nothing."""
    found = {}
    for part in MODULES:
        module = import_module(f"scipy.{part}")
        for name in module.__all__:
            text = inspect.getdoc(getattr(module, name)) or ""
            paragraphs = [" ".join(one.split()) for one in re.split(r"\n\s*\n", text)]
            prose = [one for one in paragraphs if re.match(r"[A-Z][^:`|[]+\.$", one) and "---" not in one]
            if prose and prose[0] not in found and callable(getattr(module, name)):
                found[prose[0]] = Function(name, part, prose[0], prose[1] if len(prose) > 1 else "", _parameters(text))
    ordered = sorted(found.values(), key=lambda one: hashlib.sha256(one.name.encode()).digest())
    said = Counter(one.details for one in ordered)
    ordered = [replace(one, details=one.details if said[one.details] == 1 else "") for one in ordered]
    parts = {part: [one for one in ordered if one.part == part][:80] for part in MODULES}
    return [one for one in ordered if one in parts[one.part]]


def _parameters(text):
    """The parameters that a docstring lists, and the first sentence about each."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", text, re.MULTILINE | re.DOTALL)
    listed = re.findall(r"^(\w+) : .*\n((?:[ \t]+.*\n|\n)+)", section[1] + "\n" if section else "", re.MULTILINE)
    return {name: " ".join(about.split()).partition(". ")[0] for name, about in listed}
