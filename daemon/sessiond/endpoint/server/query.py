"""What a request asks about: its path, its query, its headers, each checked before anybody looks it up."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request

from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.results import ItemError, check_name
from sessiond.endpoint.wire import DEVICE_HEADER

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000


class _MachineId(Convertor[str]):
    """A machine id in a path: it may have a `/` in it, so it ends where a session's UUID begins."""

    regex = ".+?"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("machine", _MachineId())


class Query:
    """The parameters of a request.

    Raises:
        HttpError: 400, here and in each method, with the name of the parameter.
    """

    def __init__(self, request: Request, known: set[str]) -> None:
        self._values: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name not in known:
                # A filter that is silently ignored would answer with what nobody asked for.
                raise HttpError(400, "invalid", f"unknown parameter {name[:40]}; known are {', '.join(sorted(known))}")
            if name in self._values:
                raise HttpError(400, "invalid", f"{name} is given twice")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """Read any text; None where it isn't given."""
        return self._values.get(name)

    def number(self, name: str, *, least: int = 0, most: int) -> int | None:
        """Read a number from `least` to `most`."""
        value = self._values.get(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 12 and least <= int(value) <= most):
            raise HttpError(400, "invalid", f"{name} is not a number from {least} to {most}")
        return int(value)

    def limit(self) -> int:
        """Read how many are wanted at most."""
        return self.number("limit", least=1, most=MAX_LIMIT) or DEFAULT_LIMIT

    def moment(self, name: str) -> datetime | None:
        """Read an RFC 3339 time with its offset."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            moment = msgspec.convert(value, datetime)
        except msgspec.ValidationError as error:
            raise HttpError(400, "invalid", f"{name} is not a time such as 2026-11-22T13:00:00Z") from error
        if moment.tzinfo is None:
            raise HttpError(400, "invalid", f"{name} has no time zone, such as the Z in 2026-11-22T13:00:00Z")
        return moment


def device(request: Request) -> UUID | None:
    """Tell the device that a push says it is from; None where it does not say.

    Raises:
        HttpError: 400, it is not a UUID.
    """
    said = request.headers.get(DEVICE_HEADER)
    if said is None:
        return None
    try:
        return UUID(said)
    except ValueError as error:
        raise HttpError(400, "invalid", f"{DEVICE_HEADER} is not a UUID") from error


def checked(name: str, what: str) -> str:
    """Return a name out of a path as it is.

    Raises:
        HttpError: 400, nothing can go by that name.
    """
    try:
        return check_name(name, what)
    except ItemError as error:
        raise HttpError(400, "invalid", str(error)) from error


def identity(request: Request) -> tuple[str, str]:
    """Read the machine id and the session's id out of a path."""
    return checked(request.path_params["machine_id"], "machine_id"), str(request.path_params["id"])
