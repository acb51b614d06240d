"""Records that are looked at as they are, as dictionaries: where a tool's shapes are too many to be declared."""

from __future__ import annotations

from typing import Any

import msgspec

OBJECT = msgspec.json.Decoder(dict[str, Any])
encode = msgspec.json.Encoder().encode


def inner(value: Any, *keys: str) -> Any:
    """Look into objects that lie in one another; None where one of them is something else, or not there."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(value: Any) -> str | None:
    """Take a field for text, or for nothing."""
    return value if isinstance(value, str) else None
