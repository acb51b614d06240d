"""The items of an answer, decoded one by one: what is wrong with one affects that item and no other.

Otherwise a single number out of bounds, in the answer about a single session, would keep a machine from pushing
anything: the answer as a whole would be refused, each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sessiond.endpoint import wire
from sessiond.endpoint.answers import UNREADABLE

UNDECODABLE = "undecodable"
"""The type of the problem that takes the place of a result which can't be decoded; no endpoint sends it."""


class PushAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """As wire.PushAnswer, its results not decoded yet."""

    batch: str
    results: list[msgspec.Raw]


class OffsetsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """As wire.OffsetsAnswer, its streams not decoded yet."""

    streams: list[msgspec.Raw]


class _Status(msgspec.Struct, frozen=True):
    """As much of a result as decides what becomes of the item."""

    status: str


_result = msgspec.json.Decoder(wire.Result)
_status = msgspec.json.Decoder(_Status)
_held = msgspec.json.Decoder(wire.RemotePosition)


def decode_results(raw: Sequence[msgspec.Raw]) -> list[wire.Result] | None:
    """Return the results of a push; None where none of them can be decoded.

    In place of one that can't is a problem of type UNDECODABLE, or its bare status where that acknowledges the item:
    an item that is stored must not be sent again because of a field beside it.
    """
    decoded = [_decode_result(each) for each in raw]
    if raw and all(each.problem is not None and each.problem.type == UNDECODABLE for each in decoded):
        return None
    return decoded


def _decode_result(raw: msgspec.Raw) -> wire.Result:
    try:
        result = _result.decode(raw)
    except UNREADABLE as error:
        return _bare(raw) or _undecodable(str(error))
    if (result.status == "problem") != (result.problem is not None):
        return _undecodable("a problem without a name, or a name without a problem")
    return result


def _bare(raw: msgspec.Raw) -> wire.Result | None:
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


def decode_held(raw: msgspec.Raw) -> wire.RemotePosition | None:
    """Return what is held of a stream; None where that can't be decoded."""
    try:
        return _held.decode(raw)
    except UNREADABLE:
        return None
