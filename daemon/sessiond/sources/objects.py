"""Helpers for records that are decoded to dictionaries, because a tool's shapes are too many to declare."""

from __future__ import annotations

from typing import Any

import msgspec

OBJECT = msgspec.json.Decoder(dict[str, Any])
encode = msgspec.json.Encoder().encode


def get_in(value: Any, *keys: str) -> Any:
    """Return the value at a path of keys in nested objects; None if a key is missing or a value is no object."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def without_nulls(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def as_text(value: Any) -> str | None:
    """Return the value if it is a string, else None."""
    return value if isinstance(value, str) else None
