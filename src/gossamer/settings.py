"""Settings as the plain values that JSON and YAML hold."""

import dataclasses
from pathlib import Path
from typing import Any

__all__ = ["plain", "plain_fields"]


def plain_fields(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON-ready values."""
    return {field.name: plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def plain(value: Any) -> Any:
    """A value as JSON has it; a dataclass with a form of its own (`to_dict`) keeps that."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return value.to_dict() if hasattr(value, "to_dict") else plain_fields(value)
    if isinstance(value, dict):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
