"""Decodes values of the spool. SQLite does not notice damage inside a value, so it has to be noticed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from sessiond.errors import SpoolDamaged

T = TypeVar("T")


def checked(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Return a decoder that raises SpoolDamaged for an invalid value, so that the spool is rebuilt."""

    def decode_checked(data: bytes) -> T:
        try:
            return decode(data)
        except msgspec.MsgspecError as error:
            raise SpoolDamaged(f"the spool is damaged: a value in it can't be decoded: {error}") from error

    return decode_checked
