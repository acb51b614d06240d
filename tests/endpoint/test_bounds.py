"""Numbers and names at their bounds: every client can read what the endpoint accepts, and no line uses numbers up."""

from __future__ import annotations

import json

import msgspec
import pytest
from endpoint_lines import SESSION, Pusher, append, generation, record

from sessiond.endpoint import items, wire
from sessiond.endpoint.wire import FREE_GENERATION, FREE_REVISION, MAX_GENERATION, MAX_NUMBER, STEP


def test_no_line_uses_the_numbers_up(pusher: Pusher) -> None:
    """A step is bounded: after the highest number that is accepted, the owner's client still has numbers."""
    highest = FREE_REVISION
    assert pusher.said(record(highest + 1), record(MAX_NUMBER), record(MAX_NUMBER + 1)) == ["invalid"] * 3
    assert pusher.said(record(highest), record(highest + 1), record(highest + 1 + STEP)) == ["stored"] * 3
    assert pusher.said(record(highest), record(highest + 2 + 2 * STEP)) == ["stale", "invalid"]

    highest = FREE_GENERATION
    assert pusher.said(append(0, b"x"), generation(highest + 1, 0, 0)) == ["stored", "invalid"]
    assert pusher.said(generation(MAX_GENERATION, 0, 0), generation(MAX_GENERATION + 1, 0, 0)) == ["invalid"] * 2
    assert pusher.said(generation(highest, 0, 1), generation(highest + 1, highest, 1)) == ["stored"] * 2
    assert pusher.said(generation(highest + 1 + STEP, highest, 1)) == ["stored"]
    assert pusher.said(generation(highest + 2 + 2 * STEP, highest, 1)) == ["invalid"]


@pytest.mark.parametrize("field", ["offset", "length"])
def test_lengths_have_the_same_bound_on_both_sides(pusher: Pusher, field: str) -> None:
    assert pusher.said(append(0, b"x") | {field: MAX_NUMBER + 1}) == ["invalid"]
    said = [{"name": "main", "generation": MAX_GENERATION, "length": MAX_NUMBER}]
    assert pusher.said(record() | {"streams": said, "gone_at": MAX_NUMBER}) == ["stored"]
    shown = pusher.get(f"/v1/sessions/ada/{SESSION}")
    assert msgspec.json.decode(shown.content, type=wire.StoredSession).streams[0].length == MAX_NUMBER
    for wrong in ({"streams": [said[0] | {"length": MAX_NUMBER + 1}]}, {"gone_at": MAX_NUMBER + 1}):
        assert pusher.said(record(2) | wrong) == ["invalid"]


@pytest.mark.parametrize(
    "character", ["\u202e", "\u2028", "\u2029", "\u200b", "\u2066", "\ufeff", "\u00ad", "\x7f", "\x85"]
)
def test_machine_ids_have_no_invisible_characters(pusher: Pusher, character: str) -> None:
    """Such a name looks like another one. It can still be requested, as an older store may have it."""
    name = f"lap{character}top"
    lines = [record(machine_id=name), append(0, b"x", machine_id=name), generation(1, None, 0, machine_id=name)]
    assert pusher.said(*lines) == ["invalid"] * 3
    assert pusher.said(append(0, b"x", machine_id="päron-日本")) == ["stored"]
    assert pusher.get("/v1/sessions", params={"machine_id": name}).json()["sessions"] == []


def test_results_are_decoded_one_by_one() -> None:
    """A result that can't be decoded does not affect the acknowledgement of another item."""
    raw = [
        b'{"status":"stored"}',
        b'{"status":"stored","ahead":[{"name":"main","generation":4294967296,"length":1}]}',
        b'{"status":"duplicate","ahead":7}',
        b'{"status":"problem"}',
        b'{"status":"stored","problem":{"type":"stale","title":"x"}}',
        b'{"status":"problem","problem":{"type":"stale","title":"x","revision":9223372036854775807}}',
        b'{"status":"gone"}',
        b'"stored"',
        b"[" * 5000 + b"]" * 5000,
    ]
    results = items.decode_results([msgspec.Raw(each) for each in raw])
    assert results is not None
    assert [each.status for each in results[:3]] == ["stored", "stored", "duplicate"]
    assert all(each.problem is not None and each.problem.type == items.UNDECODABLE for each in results[3:])
    assert items.decode_results([msgspec.Raw(each) for each in raw[3:]]) is None
    assert items.decode_results([]) == []
    held = [
        msgspec.Raw(
            json.dumps({"session": SESSION, "stream": "a", "generation": each, "length": 1, "sha256": None}).encode()
        )
        for each in (0, 2**31)
    ]
    assert items.decode_position(held[0]) is not None
    assert items.decode_position(held[1]) is None
