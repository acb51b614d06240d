"""Decodes the items of an answer one by one, so that an item that can't be decoded affects no other.

If the answer were decoded as a whole, one number out of bounds in one session would make every answer unusable, and the
machine could never push anything again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sessiond.endpoint import wire
from sessiond.endpoint.answers import UNREADABLE

UNDECODABLE = "undecodable"
"""The type of the problem that replaces a result which can't be decoded. No endpoint sends it."""


class PushAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Like wire.PushAnswer, with results that are not decoded yet."""

    batch: str
    results: list[msgspec.Raw]
    previous: str | msgspec.UnsetType | None = msgspec.UNSET


class OffsetsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Like wire.OffsetsAnswer, with streams that are not decoded yet."""

    streams: list[msgspec.Raw]
    taken: bool = False


class _Status(msgspec.Struct, frozen=True):
    """The status of a result without the fields beside it."""

    status: str


_result = msgspec.json.Decoder(wire.Result)
_status = msgspec.json.Decoder(_Status)
_position = msgspec.json.Decoder(wire.RemotePosition)


def decode_results(raw: Sequence[msgspec.Raw]) -> list[wire.Result] | None:
    """Return the results of a push; None if none of them can be decoded.

    A result that can't be decoded becomes a problem of the type UNDECODABLE. If its status can be decoded and
    acknowledges the item, only the status is kept: a stored item must not be sent again because of another field.
    """
    decoded = [_decode_result(each) for each in raw]
    if raw and all(each.problem is not None and each.problem.type == UNDECODABLE for each in decoded):
        return None
    return decoded


def _decode_result(raw: msgspec.Raw) -> wire.Result:
    try:
        result = _result.decode(raw)
    except UNREADABLE as error:
        return _status_only(raw) or _undecodable(str(error))
    if (result.status == "problem") != (result.problem is not None):
        return _undecodable("the status and the problem contradict each other")
    return result


def _status_only(raw: msgspec.Raw) -> wire.Result | None:
    try:
        status = _status.decode(raw).status
    except UNREADABLE:
        return None
    if status == "stored":
        return wire.Result(status="stored")
    return wire.Result(status="duplicate") if status == "duplicate" else None


def _undecodable(reason: str) -> wire.Result:
    problem = wire.Problem(
        type=UNDECODABLE,
        title="the endpoint's answer to this item can't be decoded",
        detail=f"the endpoint's answer to this item can't be decoded: {reason}",
    )
    return wire.Result(status="problem", problem=problem)


def decode_position(raw: msgspec.Raw) -> wire.RemotePosition | None:
    """Return the endpoint's position in a stream; None if it can't be decoded."""
    try:
        return _position.decode(raw)
    except UNREADABLE:
        return None
