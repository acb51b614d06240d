"""Reasonix's log of events: cut short, damaged, or made to fill the memory."""

from __future__ import annotations

import base64
import json
from struct import pack
from typing import Any

import msgspec
import pytest

from sessiond import zstd
from sessiond.errors import ReadError
from sessiond.sources import reasonix
from sessiond.sources.base import Kind, Unit
from sessiond.sources.reasonix import Reasonix

UNIT = Unit(kind=Kind.DOCUMENT, native_id="8630596487a17c1c002ace5bdaa6f843")


def frame(content: dict[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    packed = zstd.compress(text)
    return b"RX4F" + pack(">II", len(packed), len(text)) + packed


def event(number: int, payload: str) -> bytes:
    inner = {"id": f"e{number}", "seq": number, "kind": "message/complete", "payload": payload}
    return frame({"recordType": "batch/event", "event": inner})


def said(text: str) -> str:
    return base64.b64encode(json.dumps({"message": {"role": "user", "content": text}}).encode()).decode()


BEGIN = frame({"recordType": "batch/begin", "createdAt": "2026-08-22T10:00:00Z"})
END = frame({"recordType": "batch/end"})


def records(log: bytes) -> list[bytes]:
    (projection,) = Reasonix().project({"log": log}, UNIT)
    return list(projection.records)


def test_a_log_grows_by_whole_batches() -> None:
    """However few of its bytes are written yet, a log has the first records of the whole one, or none."""
    log = BEGIN + event(1, said("one")) + END + BEGIN + event(2, said("two")) + event(3, said("three")) + END
    whole = records(log)
    counts = set()
    for end in range(len(log) + 1):
        part = records(log[:end])
        assert part == whole[: len(part)]
        counts.add(len(part))
    assert counts == {0, 1, 3}


def test_a_damaged_frame_costs_no_other() -> None:
    """Its place is a record of an unknown type, so that the loss is reported."""
    damaged = bytearray(event(2, said("two")))
    damaged[20] ^= 0xFF
    found = records(BEGIN + event(1, said("one")) + bytes(damaged) + event(3, said("three")) + END)
    entries = [Reasonix().decode(record, {}) for record in found]
    assert [entry and (entry.role, entry.unknown) for entry in entries] == [
        ("user", None),
        (None, "damaged"),
        ("user", None),
    ]


def test_a_payload_that_can_not_be_decoded_is_left_out() -> None:
    """A secret in it could not be masked."""
    secret = said("the key is hunter2")[1:]
    (record,) = records(BEGIN + event(1, secret + "!") + END)
    assert secret.encode() not in record
    assert (Reasonix().decode(record, {}) or pytest.fail()).unknown == "damaged"


def test_anything_else_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        records(b'{"type":"session"}')


def test_a_log_that_fills_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasonix, "TOTAL_LIMIT", 1000)
    with pytest.raises(ReadError, match="unpacked"):
        records(BEGIN + event(1, said("a" * 1000)) + END)
