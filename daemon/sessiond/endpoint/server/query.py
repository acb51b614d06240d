"""Parsing and validation of a request's path, query parameters and headers."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import msgspec
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.results import ItemError, check_name
from sessiond.endpoint.wire import DEVICE_HEADER

_ID_PREFIX = re.compile(r"[0-9a-fA-F-]{1,36}")
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000


class _MachineId(Convertor[str]):
    """A machine id in a path. It may contain `/`, so it extends to the session's UUID."""

    regex = ".+?"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("machine", _MachineId())


class Query:
    """The query parameters of a request.

    The constructor and each method raise HttpError 400 with the name of a parameter that is not valid.
    """

    def __init__(self, request: Request, known: set[str]) -> None:
        self._values: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name not in known:
                # A client whose filter is ignored would take the answer for a filtered one.
                raise HttpError(400, "invalid", f"unknown parameter {name[:40]}; known are {', '.join(sorted(known))}")
            if name in self._values:
                raise HttpError(400, "invalid", f"{name} is given twice")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """Return a parameter as text; None if it is missing."""
        return self._values.get(name)

    def number(self, name: str, *, lowest: int = 0, highest: int) -> int | None:
        """Return a parameter as a number from `lowest` to `highest`; None if it is missing."""
        value = self._values.get(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 12 and lowest <= int(value) <= highest):
            raise HttpError(400, "invalid", f"{name} is not a number from {lowest} to {highest}")
        return int(value)

    def choice(self, name: str, values: Collection[str]) -> str | None:
        """Return a parameter that must be one of `values`; None if it is missing."""
        value = self._values.get(name)
        if value is not None and value not in values:
            raise HttpError(400, "invalid", f"{name} is not one of {', '.join(values)}")
        return value

    def limit(self) -> int:
        """Return the number of sessions that a page may have."""
        return self.number("limit", lowest=1, highest=MAX_LIMIT) or DEFAULT_LIMIT

    def time(self, name: str) -> datetime | None:
        """Return a parameter as an RFC 3339 time with its offset; None if it is missing."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            time = msgspec.convert(value, datetime)
        except msgspec.ValidationError as error:
            raise HttpError(400, "invalid", f"{name} is not a time such as 2026-11-22T13:00:00Z") from error
        if time.tzinfo is None:
            raise HttpError(400, "invalid", f"{name} has no time zone, such as the Z in 2026-11-22T13:00:00Z")
        return time


def id_prefix(text: str | None) -> str | None:
    """Return the beginning of a session's id in lower case.

    Raises:
        HttpError: 400, no id begins like that.
    """
    if text is not None and not _ID_PREFIX.fullmatch(text):
        raise HttpError(400, "invalid", "id is not the beginning of a session's id")
    return None if text is None else text.lower()


def device_id(request: Request) -> UUID | None:
    """Return the device id in the header Sessiond-Device; None if the header is missing.

    Raises:
        HttpError: 400, it is not a UUID.
    """
    value = request.headers.get(DEVICE_HEADER)
    if value is None:
        return None
    try:
        return UUID(value)
    except ValueError as error:
        raise HttpError(400, "invalid", f"{DEVICE_HEADER} is not a UUID") from error


def valid_name(name: str, label: str) -> str:
    """Return a name from a path unchanged. `label` says in the error which name it is.

    Raises:
        HttpError: 400, the name is not valid.
    """
    try:
        return check_name(name, label)
    except ItemError as error:
        raise HttpError(400, "invalid", str(error)) from error


def session_path(request: Request) -> tuple[str, str]:
    """Return the machine id and the session id in a path.

    Raises:
        HttpError: 400, the machine id is not valid.
    """
    return valid_name(request.path_params["machine_id"], "machine_id"), str(request.path_params["id"])
