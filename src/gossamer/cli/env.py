"""gossamer env: what a bug report needs to say."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from gossamer import __version__
from gossamer.cli.options import AsJson
from gossamer.cli.output import print_json, show, working

__all__ = ["env"]

PACKAGES = (
    *("torch", "tokenizers", "safetensors", "huggingface_hub", "accelerate", "numpy", "typer", "rich"),
    *("jinja2", "matplotlib", "triton", "transformers"),
)
FLAGS = (
    *("sse4_2", "avx", "fma", "f16c", "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("avx_vnni", "amx_tile", "amx_bf16", "amx_int8", "asimd", "asimdhp", "bf16", "i8mm", "sve", "sve2"),
)
# Named one by one: an environment holds secrets too.
VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE"),
    *("TOKENIZERS_PARALLELISM", "GOSSAMER_DEBUG", "GOSSAMER_REQUIRE_NATIVE", "GOSSAMER_CPU_KERNEL", "GOSSAMER_LINEAR"),
    "NO_COLOR",
)


def env(as_json: AsJson = False) -> None:
    """Versions, processor, devices and folders: paste it into a bug report."""
    with working("looking around"):
        facts = {
            "versions": _versions(),
            "system": _system(),
            "torch": _torch(),
            "devices": _devices(),
            "backends": _backends(),
            "products": {"float32": _products()},
            "folders": _folders(),
            "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        }
    if as_json:
        print_json(facts)
    else:
        show(_page(facts))


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"gossamer": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _system() -> dict[str, Any]:
    from gossamer.inspection.processor import read_processor

    name, flags = read_processor()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "platform": platform.platform(),
        "processor": name,
        "instruction_sets": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "memory_bytes": _memory(),
        "byte_order": sys.byteorder,
    }


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _torch() -> dict[str, Any]:
    import torch

    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "openmp": torch.backends.openmp.is_available(),
    }


def _devices() -> list[dict[str, Any]]:
    import torch

    from gossamer.devices import devices_there

    devices: list[dict[str, Any]] = [{"device": "cpu"}]
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(i)
        capability = f"{facts.major}.{facts.minor}"
        devices.append(
            {"device": f"cuda:{i}", "name": facts.name, "memory_bytes": facts.total_memory, "capability": capability}
        )
    return devices + [{"device": name} for name in devices_there() if name not in ("cpu", "cuda")]


def _backends() -> list[str]:
    """The names; of the compiled kernel also what it is compiled for, or why it is not there."""
    from gossamer.kernels import BACKENDS
    from gossamer.kernels.backends.cpu.library import instruction_set, why_instruction_set, why_no_library

    told = "; ".join(filter(None, (instruction_set() or why_no_library(), why_instruction_set())))
    return [f"cpu ({told})" if name == "cpu" else name for name in BACKENDS]


def _products() -> str:
    """The way of products with weights, and why."""
    import torch

    from gossamer.kernels import explain_linear

    return str(explain_linear(torch.zeros(64, 64), torch.zeros(64, 64)))


def _folders() -> dict[str, str]:
    from huggingface_hub import constants

    folders = {"package": str(Path(__file__).parents[1]), "models from the hub": constants.HF_HUB_CACHE}
    return {name: _from_home(path) for name, path in folders.items()}


def _from_home(path: str) -> str:
    """With the home directory, which tells the user's name, as ~."""
    home = str(Path.home())
    return f"~{path.removeprefix(home)}" if path.startswith(f"{home}/") else path


def _page(sections: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for section, facts in sections.items():
        for i, (name, value) in enumerate(_lines(facts)):
            table.add_row(section if i == 0 else "", name, Text(value))
    return table


def _lines(facts: Any) -> list[tuple[str, str]]:
    if isinstance(facts, list) and all(isinstance(fact, str) for fact in facts):
        return [("", ", ".join(facts))]
    if isinstance(facts, list):
        return [(fact["device"], ", ".join(_shown(n, v) for n, v in fact.items() if n != "device")) for fact in facts]
    labels = {name: name.removesuffix("_bytes").replace("_", " ") if name.islower() else name for name in facts}
    return [(labels[name], _shown(name, value)) for name, value in facts.items()] or [("", "none set")]


def _shown(name: str, value: Any) -> str:
    if name == "memory_bytes" and value:
        return f"{value / 2**30:.1f} GiB"
    if isinstance(value, list):
        return " ".join(value) or "unknown"
    words = {None: "none", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
