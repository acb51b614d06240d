"""Decoders that threads build one at a time.

msgspec analyses a Struct when it first builds a decoder for it. If a second thread uses the same Struct meanwhile, it
sees fields without types, and the process crashes with SIGSEGV (msgspec 0.22). So whatever builds a decoder inside a
function does it here, under one lock. Decoders at module level need none: the daemon and the endpoint import their
modules before they start threads. tests/docs/test_decoders.py checks both.
"""

from __future__ import annotations

from _thread import allocate_lock  # `threading` would add a twentieth to the time of `status`
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_building = allocate_lock()
_json: dict[Any, msgspec.json.Decoder[Any]] = {}
_msgpack: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def json_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """Return the decoder of JSON for a type. It is built once."""
    found = _json.get(kind)
    if found is None:
        with _building:
            found = _json.setdefault(kind, msgspec.json.Decoder(kind))
    return found


def msgpack_decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    """Return the decoder of MessagePack for a type. It is built once."""
    found = _msgpack.get(kind)
    if found is None:
        with _building:
            found = _msgpack.setdefault(kind, msgspec.msgpack.Decoder(kind))
    return found


def convert(value: object, kind: type[T]) -> T:
    """Return plain data, such as parsed TOML, as a value of this type. Raises: msgspec.ValidationError."""
    json_decoder(kind)  # analyses the type; msgspec.convert uses the result
    return msgspec.convert(value, kind)
