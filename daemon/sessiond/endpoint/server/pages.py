"""Positions in lists that are answered a page at a time, as opaque tokens."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec

from sessiond.decoding import json_decoder
from sessiond.endpoint.wire import MAX_GENERATION
from sessiond.errors import SessiondError

PAGE = 2 << 20
"""Bytes of records after which a page ends early. Without it, a page of a thousand records may have a gigabyte."""
PageToken = TypeVar("PageToken", bound=msgspec.Struct)


class AfterSession(msgspec.Struct, frozen=True, array_like=True):
    """A position in the list of sessions."""

    moment_ms: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    """The value that the list is ordered by. Bounded to SQLite's integers: a client may send any number back."""
    machine: str
    session: str
    order: str = "started"


class AfterChange(msgspec.Struct, frozen=True, array_like=True):
    """A position in the sequence of changes of an endpoint."""

    endpoint: UUID
    change: int


class AfterGeneration(msgspec.Struct, frozen=True, array_like=True):
    """A position in the list of generations of a session's streams."""

    name: str
    generation: Annotated[int, msgspec.Meta(ge=-1, le=MAX_GENERATION)]


class UnknownPageToken(SessiondError):
    """A `since` or `after` that this endpoint did not issue."""


def encode_token(position: msgspec.Struct) -> str:
    """Return an opaque token for a position in a list."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_token(token: str, kind: type[PageToken]) -> PageToken:
    """Return the position in a token.

    Raises:
        UnknownPageToken: the token does not have a position of this kind.
    """
    try:
        return json_decoder(kind).decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError) as error:
        raise UnknownPageToken("this endpoint did not issue that position", hint="start again without it") from error
