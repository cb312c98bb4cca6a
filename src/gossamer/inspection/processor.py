"""Which processor this is."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["read_processor"]


def read_processor() -> tuple[str, set[str]]:
    """Name and flags: Linux tells them; elsewhere only the machine's kind is known."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine(), set()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    return facts.get("model name", platform.machine()), set((facts.get("flags") or facts.get("Features", "")).split())
