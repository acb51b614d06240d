"""Names of streams and ids of sessions that come from file names: made fit to be stored and sent."""

from __future__ import annotations

import re
from hashlib import blake2b

import msgspec

from sessiond.sources.base import Unit

_UNSUITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|^$|(?:^|/)\.{0,2}(?:/|$)")
_MAX_NAME = 180
"""Characters of a stream's name. A suffix behind it must fit too (wire.MAX_NAME)."""


def as_text(name: str) -> str:
    """Return a file name as text: bytes that are not UTF-8 are escaped, any other name is unchanged."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


def stream_name(name: str) -> str:
    """Return a stream name that the endpoint accepts: a long or unsuitable one becomes its plain part and a digest."""
    if len(name) <= _MAX_NAME and not _UNSUITABLE.search(name):
        return name
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:100] + "~" + digest


def sanitize(unit: Unit) -> Unit:
    """Return a unit whose names, which come from a file's name, can be stored and sent."""
    native_id = None if unit.native_id is None else as_text(unit.native_id)
    parent = None if unit.parent is None else as_text(unit.parent)
    names = native_id, parent, stream_name(unit.stream)
    if names == (unit.native_id, unit.parent, unit.stream):
        return unit
    return msgspec.structs.replace(unit, native_id=names[0], parent=names[1], stream=names[2])
