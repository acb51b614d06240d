"""Decoding what the spool holds. SQLite does not see damage inside of a value: it shows here, or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from sessiond.errors import SpoolDamaged

T = TypeVar("T")


def sound(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Make a decoder that raises SpoolDamaged for what is no such value, so that the spool is made anew."""

    def decoded(data: bytes) -> T:
        try:
            return decode(data)
        except msgspec.MsgspecError as error:
            raise SpoolDamaged(f"the spool is damaged: a value in it can't be decoded: {error}") from error

    return decoded
