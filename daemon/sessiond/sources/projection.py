"""Projects what a tool stores about a session as a whole and changes at any time: its use of tokens, its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessiond.sources.base import Projection
from sessiond.sources.objects import encode, without_nulls

SESSION = "session"
"""The type of the record, and the name of its stream."""


def session_projection(native_id: str, fields: Mapping[str, Any], stream: str = SESSION) -> Projection:
    """Project the fields of a session that change while it goes on to the only record of a separate stream.

    In the stream of the messages, each change of a token counter would rewrite the whole transcript. The title is kept
    as `Projection.metadata` instead. Without fields, the projection is empty.
    """
    known = without_nulls(dict(fields))
    return Projection(native_id=native_id, stream=stream, records=[encode({"type": SESSION, **known})] if known else [])
