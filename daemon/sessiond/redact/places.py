"""Counts the places at which secrets were masked, in text that was masked elsewhere.

A mask has no name: it is stars, or a star and hex digits (see `cover`). So a text that has such a run itself counts
too, except where the run is part of a comment sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MASK = rb"\*(?:\*{3,}|[0-9a-f]{7,}(?![0-9A-Za-z_]))"
_KEPT = rb"(?:\\++(?:u[0-9a-fA-F]{4}|[\"'/bfnrtu])?+|[\"\x00-\x1f\x7f])"
"""What is kept inside of a secret. A mask goes on after it, as in a key of many lines."""
_NO_COMMENT_BEFORE = rb"(?<!\*)(?<!\A/)(?<!\s/)(?<!\\n/)(?<!\"/)"
_NO_COMMENT_AFTER = rb"(?!\*)(?!/(?:[\s\"\\]|\Z))"
_PLACE = re.compile(_NO_COMMENT_BEFORE + _MASK + rb"(?:" + _KEPT + rb"{1,8}+" + _MASK + rb")*" + _NO_COMMENT_AFTER)
_ENDS = re.compile(rb".*[ ,:}]", re.DOTALL)
"""Everything up to a byte that no place contains."""
LONGEST = 1 << 20
"""Bytes without such a byte, after which a place may be cut in two."""


def count_masked(pieces: Iterable[bytes]) -> int:
    """Return the number of places at which a text looks masked. `pieces` are its bytes, cut anywhere."""
    found, rest = 0, b""
    for piece in pieces:
        rest += piece
        whole = _ENDS.match(rest)
        end = whole.end() if whole is not None else len(rest) if len(rest) > LONGEST else 0
        found += len(_PLACE.findall(rest[:end]))
        rest = rest[end:]
    return found + len(_PLACE.findall(rest))
