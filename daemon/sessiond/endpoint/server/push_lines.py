"""Decodes and verifies the lines of a push.

This happens before the write transaction, so that decompressing and hashing what a client sends keeps no other device
waiting.
"""

from __future__ import annotations

import msgspec

from sessiond.endpoint.server import records
from sessiond.endpoint.server.payload import AppendPayload, unpack
from sessiond.endpoint.server.results import ItemError, check_machine, check_name, describe, problem
from sessiond.endpoint.wire import (
    MAX_RECORD,
    Limits,
    Push,
    PushAppend,
    PushGeneration,
    PushSession,
    Result,
)

_decoder = msgspec.json.Decoder(Push)


class PushLine(msgspec.Struct, kw_only=True, gc=False):
    """A valid line."""

    number: int
    """Its number in the push, from 1."""
    machine: str
    session: str
    item: Push
    payload: AppendPayload | None = None
    """The bytes of an append."""
    envelope: bytes = b""
    """A record as it is stored."""
    held: bool | None = None
    """Whether the store had these bytes at this offset before the write transaction; None: not known. Stored bytes
    never change, so the answer stays valid."""

    @property
    def where(self) -> str:
        """A description of the line for people."""
        item = self.item
        stream = "" if isinstance(item, PushSession) else f" stream {item.stream}"
        return f"line {self.number} ({_OPERATIONS[type(item)]} of session {self.session}{stream})"


def decode_lines(lines: list[bytes], limits: Limits) -> list[PushLine | Result]:
    """Return the decoded lines in order. A bad line becomes its result.

    All appends together may have `limits.appended` decoded bytes. From the first one that exceeds them on, every line
    becomes `push-full` without being decoded; the first append always fits. `lines` is emptied, so that no line is in
    memory twice.
    """
    decoded: list[PushLine | Result] = []
    left = max(limits.appended, limits.segment)
    for number, line in enumerate(lines, 1):
        lines[number - 1] = b""
        if left < 0:
            decoded.append(push_full(f"line {number}"))
            continue
        one = _one(number, line, limits, left)
        left -= one.payload.length if isinstance(one, PushLine) and one.payload else 0
        if isinstance(one, Result) and one.problem is not None and one.problem.type == "push-full":
            left = -1
        decoded.append(one)
    return decoded


def push_full(where: str) -> Result:
    """Return the result for a line that has to be sent again in another push."""
    return problem("push-full", f"{where}: the lines before it are as much as one push may contain; send it again")


def _one(number: int, line: bytes, limits: Limits, left: int) -> PushLine | Result:
    try:
        item: Push = _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return ItemError("invalid", str(error)).result(describe(number, line))
    try:
        if isinstance(item, PushSession):
            return _record(number, item, len(line))
        return _stream_item(number, item, limits, left)
    except ItemError as bad:
        return bad.result(describe(number, line))


def _record(number: int, item: PushSession, size: int) -> PushLine:
    if size > MAX_RECORD:
        raise ItemError("too-large", f"a session line may have {MAX_RECORD} bytes")
    record = item.record
    if record.machine_id is None:
        raise ItemError("invalid", "record.machine_id is null")
    machine = check_machine(record.machine_id, "record.machine_id")
    for stream in item.streams:
        check_name(stream.name, "the name of a stream")
    if not record.tool:
        raise ItemError("invalid", "record.tool is empty")
    if not 0 <= record.message_count < 2**31:
        raise ItemError("invalid", f"record.message_count is {record.message_count}, not a 32-bit count")
    for moment in (record.started_at, record.ended_at):
        if moment is not None and moment.tzinfo is None:
            raise ItemError("invalid", f"{moment.isoformat()} has no time zone")
    return PushLine(number=number, machine=machine, session=str(record.id), item=item, envelope=records.envelope(item))


def _stream_item(number: int, item: PushAppend | PushGeneration, limits: Limits, left: int) -> PushLine | Result:
    machine = check_machine(item.machine_id, "machine_id")
    check_name(item.stream, "stream")
    line = PushLine(number=number, machine=machine, session=str(item.session), item=item)
    if isinstance(item, PushGeneration):
        if item.generation == 0:
            raise ItemError("invalid", "generation 0 begins with its first append")
        if item.previous is None and item.keep:
            raise ItemError("invalid", "keep needs a previous generation")
        if item.previous is not None and item.previous >= item.generation:
            raise ItemError("invalid", "previous is not below generation")
        return line
    if left < item.length <= limits.segment:
        return push_full(line.where)
    line.payload = payload = unpack(item, limits.segment)
    payload.frame()  # compress it now, if necessary, and not in the write transaction
    # Drop the text: `payload` has the bytes, and one push may have 32 MiB of them.
    line.item = msgspec.structs.replace(item, data="")
    return line


_OPERATIONS: dict[type, str] = {PushSession: "session", PushAppend: "append", PushGeneration: "generation"}
