"""Each row of the protocol's table of errors is what the endpoint answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from endpoint_lines import SESSION, Pusher, append, record, serving

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
STREAM = f"/v1/sessions/ada/{SESSION}/streams/main"
NOT_HERE = {
    ("429", ""),
    ("408", "too-slow"),
    ("503", "busy"),
    ("507", "full"),
    ("403", "forbidden"),
    ("403", "wrong-device"),
}
"""429 is never sent; the others need a slow client, a busy or full store, or a token with less: see test_bodies.py,
test_serve.py and the tests of tokens."""


CASES: dict[tuple[str, str], Callable[[Pusher], httpx.Response]] = {
    ("400", "invalid"): lambda pusher: pusher.get("/v1/sessions", params={"limit": 0}),
    ("400", "malformed"): lambda pusher: pusher.post("/v1/push", content=b"x", headers={"Content-Encoding": "gzip"}),
    ("401", "unauthorized"): lambda pusher: pusher.get("/v1/sessions", headers={"Authorization": "Bearer wrong"}),
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
    """Status and type, as a problem of RFC 9457 with the reason in words."""
    assert pusher.said(record(), append(0, b"0123456789")) == ["stored"] * 2
    answer = CASES[row](pusher)
    assert (str(answer.status_code), answer.json()["type"]) == row
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


@pytest.mark.filterwarnings("ignore")
def test_a_fault_of_the_endpoint_is_failed(tmp_path: Path) -> None:
    """500, when its store is damaged."""
    with serving(tmp_path) as it, Pusher(it.url, it.token) as pusher:
        with it.store.write() as db:
            db.execute("ALTER TABLE sessions RENAME TO lost")
        answer = pusher.get("/v1/sessions")
        assert (answer.status_code, answer.json()["type"]) == (500, "failed")


def test_every_row_of_the_table_has_a_test() -> None:
    """A row that is added needs one, too."""
    rows = re.findall(r"^\| ([0-9, ]+) \| (?:`([a-z-]+)`)? *\|", PROTOCOL.read_text(), re.MULTILINE)
    table = {(status, kind) for several, kind in rows for status in several.split(", ")}
    assert table - NOT_HERE == set(CASES) | {("500", "failed")}
