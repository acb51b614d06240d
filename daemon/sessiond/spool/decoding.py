"""Decodes values of the spool. SQLite does not notice damage inside a value, so it has to be noticed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from sessiond.errors import SpoolDamaged

T = TypeVar("T")


def checked(
    make: Callable[[type[T]], msgspec.json.Decoder[T] | msgspec.msgpack.Decoder[T]], kind: type[T]
) -> Callable[[bytes], T]:
    """Return a function that decodes values of this type and raises SpoolDamaged for an invalid one.

    The spool is then rebuilt. `make` is `json_decoder` or `msgpack_decoder`; it builds the decoder when it is first
    used, because `ls` needs few of them.
    """

    def decode_checked(data: bytes) -> T:
        try:
            return make(kind).decode(data)
        except msgspec.MsgspecError as error:
            raise SpoolDamaged(f"the spool is damaged: a value in it can't be decoded: {error}") from error

    return decode_checked
