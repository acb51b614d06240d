"""Parses what any HTTP server may send: problem bodies, dates, Retry-After, redirects."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import msgspec

from sessiond.clock import now_ms
from sessiond.decoding import json_decoder
from sessiond.memory import lean_imports

with lean_imports():
    import httpx

MAX_RETRY_AFTER = 3600.0
LOGIN_REQUIRED = 511
"""The status with which a network asks for a login (RFC 6585)."""
UNREADABLE = (msgspec.MsgspecError, RecursionError)
"""The errors of decoding an answer. RecursionError: the JSON may be nested too deeply."""


def is_json(response: httpx.Response) -> bool:
    """Return whether an answer says that it is JSON, as those of an endpoint do."""
    return content_type(response) == "application/json"


def content_type(response: httpx.Response) -> str:
    """Return the content type of an answer without its parameters, in lower case; "" if it has none."""
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def is_transient(status: int) -> bool:
    """Return whether a status means that the same request may succeed later."""
    return status in (408, 425, 429) or (status >= 500 and status != LOGIN_REQUIRED)


def content_of(response: httpx.Response) -> bytes:
    """Return the body of an answer as it was sent. It stays readable: the transport has read it into memory."""
    return b"".join(response.stream) if isinstance(response.stream, httpx.ByteStream) else b"".join(response.iter_raw())


class _ProblemBody(msgspec.Struct):
    title: str = ""
    detail: str | None = None


def problem_text(content: bytes) -> str:
    """Return the detail or the title of a problem body (RFC 9457) unchanged; "" if it has neither."""
    try:
        problem = json_decoder(_ProblemBody).decode(content)
    except UNREADABLE:
        return ""
    return problem.detail or problem.title


def redirect_host(location: str) -> str:
    """Return the host in a Location header; "" if it has none."""
    try:
        return httpx.URL(location).host
    except httpx.InvalidURL:
        return ""


def parse_date(value: str | None) -> float | None:
    """Return an HTTP date in unix seconds; None for anything else."""
    try:
        return None if value is None else parsedate_to_datetime(value).timestamp()
    except ValueError:
        return None


def parse_retry_after(value: str | None) -> float | None:
    """Return Retry-After in seconds, up to an hour; None if it is not a time in the future."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now_ms() / 1000
        except (ValueError, OverflowError):
            return None
    return min(seconds, MAX_RETRY_AFTER) if seconds > 0 else None
