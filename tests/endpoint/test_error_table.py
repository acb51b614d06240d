"""The endpoint answers each row of the protocol's table of errors as documented."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import test_bodies
import test_damaged_chunks
import test_keep_days
import test_serve
from endpoint_lines import OTHER_DEVICE, SESSION, Pusher, append, record, serving

from sessiond.endpoint.server import Running, tokens

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
STREAM = f"/v1/sessions/ada/{SESSION}/streams/main"
NEVER_SENT = {("429", "")}
ELSEWHERE = {
    ("404", "damaged"): test_damaged_chunks.test_reading_it_is_answered_404_and_others_are_read,
    ("404", "expired"): test_keep_days.test_an_old_session_is_let_go_and_a_recent_one_is_not,
    ("408", "too-slow"): test_bodies.test_a_body_that_does_not_arrive_in_time_is_answered_408,
    ("503", "busy"): test_bodies.test_too_many_pushes_at_once_are_told_to_come_back,
    ("507", "full"): test_serve.test_a_full_disk_turns_a_push_away_whole,
}
"""Rows that need a slow client, an old session, or a busy, full or damaged store, with their tests."""


CASES: dict[tuple[str, str], Callable[[Pusher], httpx.Response]] = {
    ("400", "invalid"): lambda pusher: pusher.get("/v1/sessions", params={"limit": 0}),
    ("400", "malformed"): lambda pusher: pusher.post("/v1/push", content=b"x", headers={"Content-Encoding": "gzip"}),
    ("401", "unauthorized"): lambda pusher: pusher.get("/v1/sessions", headers={"Authorization": "Bearer wrong"}),
    ("403", "invitation"): lambda pusher: pusher.post(
        "/v1/enrol", json={"code": "x", "device_id": OTHER_DEVICE, "machine_id": "ada"}
    ),
    ("404", "not-found"): lambda pusher: pusher.get("/v2"),
    ("405", "method-not-allowed"): lambda pusher: pusher.get("/v1/push"),
    ("410", "unknown-place"): lambda pusher: pusher.get("/v1/changes", params={"since": "x"}),
    ("413", "too-large"): lambda pusher: pusher.post("/v1/push", content=bytes(9 << 20)),
    ("415", "unsupported-media-type"): lambda pusher: pusher.post("/v1/push", headers={"Content-Type": "text/html"}),
    ("415", "unsupported-encoding"): lambda pusher: pusher.post("/v1/push", headers={"Content-Encoding": "br"}),
    ("415", "unknown-dictionary"): lambda pusher: pusher.post(
        "/v1/push", content=bytes.fromhex("5e2a4d1820000000") + bytes(40), headers={"Content-Encoding": "dcz"}
    ),
    ("416", "no-such-range"): lambda pusher: pusher.get(STREAM, headers={"Range": "bytes=99-"}),
}


@pytest.mark.parametrize("row", list(CASES), ids="-".join)
def test_a_row_is_what_is_answered(pusher: Pusher, row: tuple[str, str]) -> None:
    """The answer has the status and the type, as a problem of RFC 9457 with the reason in words."""
    assert pusher.said(record(), append(0, b"0123456789")) == ["stored"] * 2
    answer = CASES[row](pusher)
    assert (str(answer.status_code), answer.json()["type"]) == row
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def with_a_scope(endpoint: Running, scope: str) -> Pusher:
    """Return a client whose token has one scope."""
    return Pusher(endpoint.url, tokens.add(endpoint.store, scope, scopes=[scope]))


def without_the_scope(endpoint: Running) -> httpx.Response:
    """Push with a token that may only read."""
    with with_a_scope(endpoint, "read") as reader:
        return reader.post("/v1/push", content=json.dumps(append(0, b"x")))


def of_a_user_without_admin(endpoint: Running) -> httpx.Response:
    """Ask for a user's sessions with a token that is not an administrator's."""
    with with_a_scope(endpoint, "read") as reader:
        return reader.get("/v1/sessions", params={"user": "default"})


def from_another_device(endpoint: Running) -> httpx.Response:
    """Push with a token that is bound to another device."""
    with with_a_scope(endpoint, "push") as pusher:
        assert pusher.said(append(0, b"x")) == ["stored"]
        pusher.headers["Sessiond-Device"] = OTHER_DEVICE
        return pusher.post("/v1/push", content=json.dumps(append(1, b"y")))


def from_a_released_device(endpoint: Running) -> httpx.Response:
    """Push with a token that was released from this device."""
    with with_a_scope(endpoint, "push") as pusher:
        assert pusher.said(append(0, b"x")) == ["stored"]
        tokens.rebind(endpoint.store, "push")
        return pusher.post("/v1/push", content=json.dumps(append(1, b"y")))


REFUSED: dict[Callable[[Running], httpx.Response], tuple[str, str]] = {
    without_the_scope: ("403", "forbidden"),
    of_a_user_without_admin: ("403", "forbidden"),
    from_another_device: ("403", "wrong-device"),
    from_a_released_device: ("403", "wrong-device"),
}
"""Requests that need a token of their own."""


@pytest.mark.parametrize("request_", REFUSED, ids=lambda each: each.__name__)
def test_a_row_about_tokens_is_what_is_answered(
    endpoint: Running, request_: Callable[[Running], httpx.Response]
) -> None:
    """The request is refused as a whole, with the reason in words."""
    answer = request_(endpoint)
    assert (str(answer.status_code), answer.json()["type"]) == REFUSED[request_]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


@pytest.mark.filterwarnings("ignore")
def test_a_fault_of_the_endpoint_is_failed(tmp_path: Path) -> None:
    """A damaged store is answered with 500."""
    with serving(tmp_path) as it, Pusher(it.url, it.token) as pusher:
        with it.store.write() as db:
            db.execute("ALTER TABLE sessions RENAME TO lost")
        answer = pusher.get("/v1/sessions")
        assert (answer.status_code, answer.json()["type"]) == (500, "failed")


def rows_of_the_table() -> set[tuple[str, str]]:
    """Return the status and the type of each row of the protocol's table of errors."""
    rows = re.findall(r"^\| ([0-9, ]+) \| (?:`([a-z-]+)`)? *\|", PROTOCOL.read_text(), re.MULTILINE)
    return {(status, kind) for several, kind in rows for status in several.split(", ")}


def test_every_row_of_the_table_has_a_test() -> None:
    """A row that is added needs a test too."""
    table = rows_of_the_table()
    assert table - NEVER_SENT == CASES.keys() | ELSEWHERE.keys() | set(REFUSED.values()) | {("500", "failed")}
