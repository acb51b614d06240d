"""Range requests (RFC 9110, section 14)."""

from __future__ import annotations

import re

from sessiond.endpoint.server.problems import HttpError


def parse_range(header: str | None, length: int, headers: dict[str, str]) -> tuple[int, int, bool]:
    """Return the first byte, the end, and whether the answer is partial content.

    Without a valid single range, all `length` bytes are meant.

    Raises:
        HttpError: 416 with `headers`, the range begins behind the end.
    """
    match = re.fullmatch(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", header or "")
    if match is None or not (match[1] or match[2]):
        return 0, length, False
    if match[1]:
        start = int(match[1])
        end = min(int(match[2]) + 1, length) if match[2] else length
        if match[2] and int(match[2]) < start:
            return 0, length, False
    else:
        start, end = max(length - int(match[2]), 0), length
    if start >= end:
        raise HttpError(
            416,
            "no-such-range",
            f"the stream has {length} bytes",
            headers=headers | {"Content-Range": f"bytes */{length}"},
        )
    return start, end, True
