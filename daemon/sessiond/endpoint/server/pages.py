"""Positions in lists that are answered a page at a time, as opaque tokens."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from sessiond.errors import SessiondError

PAGE = 2 << 20
"""Bytes of records after which a page ends early. Without it, a page of a thousand records may have a gigabyte."""
PageToken = TypeVar("PageToken", bound=msgspec.Struct)


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
        return msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError) as error:
        raise UnknownPageToken("this endpoint did not issue that position", hint="start again without it") from error
