"""How the client handles each answer: the kind of failure, the wait until the next try, and the quoted text."""

from __future__ import annotations

import json
import uuid

import httpx
import pytest
from test_error_table import rows_of_the_table

from sessiond.daemon.outage import after_failure
from sessiond.endpoint import wire
from sessiond.endpoint.answers import MAX_RETRY_AFTER
from sessiond.endpoint.client import Client
from sessiond.endpoint.compression import CompressingTransport
from sessiond.errors import EndpointError, Forbidden, Refused, Rejected, TooLarge, Unreachable, WrongEndpoint
from sessiond.spool.health import EndpointHealth

TOKEN = "a-token-of-the-user-which-nobody-may-read"
BATCH = "00ff"
JSON, PROBLEM, HTML = "application/json", "application/problem+json", "text/html; charset=utf-8"
STORED = json.dumps({"batch": BATCH, "results": [{"status": "stored"}]}).encode()
PAGE = b"<html>Welcome to the hotel</html>"
SOON, JITTERED, ASKED = (4.0, 6.0), (0.0, 2.0), (60.0, 66.0)
ITEM = wire.PushGeneration(machine_id="box", session=uuid.UUID(int=1), stream="main", generation=1, previous=0, keep=0)


class Canned(httpx.BaseTransport):
    """Answers every request with the same status, headers and body, or fails."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, error: Exception | None = None) -> None:
        self.status, self.headers, self.body, self.error = status, headers, body, error

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer."""
        if self.error is not None:
            raise self.error
        return httpx.Response(self.status, headers=self.headers, stream=httpx.ByteStream(self.body))


def ask(canned: Canned, *, token: str | None = TOKEN) -> EndpointError | list[wire.Result]:
    """Push one item; return its result or the error."""
    # The timeout is long, so that no answer depends on how busy the machine is.
    client = Client("http://127.0.0.1:9", token, device_id=uuid.UUID(int=1), timeout=3600.0, transport=canned)
    try:
        return client.push([ITEM], BATCH).results
    except EndpointError as error:
        return error
    finally:
        client.close()


def rows() -> list[tuple[int, str | None, bytes, str, tuple[float, float]]]:
    """List the table: status, content type, body -> kind, and the range of the first wait in seconds."""
    wrong = [
        (200, JSON, STORED[:-5], "wrong", SOON),
        (200, JSON, b"", "wrong", SOON),
        (200, JSON, b'{"status":"ok"}', "wrong", SOON),
        (200, JSON, b"[" * 100_000, "wrong", SOON),
        (200, JSON, STORED.replace(b"00ff", b"0000"), "wrong", SOON),
        (200, JSON, STORED.replace(b'[{"status": "stored"}]', b"[]"), "wrong", SOON),
        (200, JSON, STORED.replace(b"stored", b"problem"), "wrong", SOON),
        (200, HTML, PAGE, "wrong", SOON),
        (200, HTML, STORED, "wrong", SOON),
        (200, None, STORED, "wrong", SOON),
        (200, PROBLEM, STORED, "wrong", SOON),
        (511, HTML, PAGE, "wrong", SOON),
    ]
    bodies = [(PROBLEM, b'{"title":"no"}'), (HTML, PAGE), (None, b""), (JSON, STORED), (PROBLEM, b'{"title":')]
    for status in (201, 202, 204, 206, 300, 301, 302, 303, 304, 307, 308, 404, 405, 406, 407, 409, 410, 421, 451):
        wrong += [(status, kind, body, "wrong", SOON) for kind, body in bodies]
    for status in (400, 413, 415, 422):
        wrong += [(status, kind, body, "wrong", SOON) for kind, body in bodies]
    refused = [(status, kind, body, "refused", SOON) for status in (401, 403) for kind, body in bodies]
    later = (408, 425, 429, 500, 501, 502, 503, 504, 505, 507, 508, 520, 599)
    return (
        wrong + refused + [(status, kind, body, "unreachable", JITTERED) for status in later for kind, body in bodies]
    )


@pytest.mark.parametrize("status", sorted({row[0] for row in rows()}))
def test_each_answer_has_its_kind_and_its_wait(status: int) -> None:
    """No single answer costs more than seconds. Only what endpoints answer under load is `unreachable`."""
    for content_type, body, kind, waits in (row[1:] for row in rows() if row[0] == status):
        case = f"{content_type}: {body[:100]!r}"
        error = ask(Canned(status, {"content-type": content_type} if content_type else {}, body))
        assert isinstance(error, EndpointError), case
        for _ in range(20):
            made = after_failure(EndpointHealth(url="http://127.0.0.1:9"), error, 1_000_000)
            assert made.kind == kind, case
            assert made.next_attempt_ms is not None, case
            assert waits[0] * 1000 <= made.next_attempt_ms - 1_000_000 <= waits[1] * 1000, case
            assert not made.paused, case
        if not 200 <= status < 300:
            assert f"answered {status}" in str(error), case


def test_the_documented_answer_is_accepted() -> None:
    """The protocol's own answer is accepted, with parameters in the content type."""
    results = ask(Canned(200, {"content-type": "Application/JSON; charset=utf-8"}, STORED))
    assert isinstance(results, list)
    assert [result.status for result in results] == ["stored"]


@pytest.mark.parametrize(("status", "kind"), [(413, TooLarge), (400, Rejected), (415, Rejected), (422, Rejected)])
def test_only_oversized_requests_are_halved(status: int, kind: type[EndpointError]) -> None:
    """Only requests with these answers are halved, and only these answers may lead to a parked item."""
    assert type(ask(Canned(status, {}, b""))) is kind


REACTIONS: dict[tuple[str, str], type[EndpointError]] = {
    ("400", "invalid"): Rejected,
    ("400", "malformed"): Rejected,
    ("401", "unauthorized"): Refused,
    ("403", "forbidden"): Forbidden,
    ("403", "wrong-device"): Forbidden,
    ("403", "invitation"): Forbidden,
    ("404", "not-found"): WrongEndpoint,
    ("404", "damaged"): WrongEndpoint,
    ("404", "expired"): WrongEndpoint,
    ("405", "method-not-allowed"): WrongEndpoint,
    ("408", "too-slow"): Unreachable,
    ("410", "unknown-place"): WrongEndpoint,
    ("413", "too-large"): TooLarge,
    ("415", "unsupported-media-type"): Rejected,
    ("415", "unsupported-encoding"): Rejected,
    ("415", "unknown-dictionary"): Rejected,
    ("416", "no-such-range"): WrongEndpoint,
    ("429", ""): Unreachable,
    ("500", "failed"): Unreachable,
    ("503", "busy"): Unreachable,
    ("507", "full"): Unreachable,
}
"""What the client makes of each row of the protocol's table. TooLarge and Rejected are halved, Refused keeps all data
and reports it, Unreachable is retried later, WrongEndpoint means that the configured URL is wrong."""


def test_every_row_of_the_protocols_table_has_a_reaction() -> None:
    assert REACTIONS.keys() == rows_of_the_table()


@pytest.mark.parametrize("row", list(REACTIONS), ids="-".join)
def test_the_client_reacts_to_each_row_as_documented(row: tuple[str, str]) -> None:
    """The status decides. The endpoint's reason is shown."""
    status, kind = row
    body = json.dumps({"type": kind, "title": "x", "status": int(status), "detail": f"because of {kind}"}).encode()
    error = ask(Canned(int(status), {"content-type": PROBLEM}, body))
    assert type(error) is REACTIONS[row]
    assert f"answered {status}: because of {kind}" in str(error)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_the_least_wait(status: int) -> None:
    """The client obeys it only if the endpoint reports that it is too busy."""
    error = ask(Canned(status, {"retry-after": "60"}, b""))
    assert isinstance(error, Unreachable)
    made = after_failure(EndpointHealth(), error, 0)
    assert made.next_attempt_ms is not None
    assert ASKED[0] <= made.next_attempt_ms / 1000 <= ASKED[1]
    assert not hasattr(ask(Canned(401, {"retry-after": str(MAX_RETRY_AFTER)}, b"")), "retry_after")


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("late"), httpx.ProxyError("407")])
def test_a_missing_answer_is_unreachable(error: Exception) -> None:
    """The machine may be off, the network down, or a proxy closed."""
    assert isinstance(ask(Canned(0, {}, b"", error)), Unreachable)


LEAKS = {
    "a title": Canned(401, {}, json.dumps({"title": f"no such token: {TOKEN}"}).encode()),
    "a detail": Canned(500, {}, json.dumps({"title": "x", "detail": f"Bearer {TOKEN} is unknown"}).encode()),
    "where the text is cut": Canned(403, {}, json.dumps({"title": "x" * 190 + TOKEN}).encode()),
    "a content type": Canned(200, {"content-type": f"text/{TOKEN}"}, b""),
    "a redirect": Canned(302, {"location": f"http://{TOKEN}.example.org/"}, b""),
    "a wrong value": Canned(200, {"content-type": JSON}, STORED.replace(b'"stored"', f'"{TOKEN}"'.encode())),
    "a protocol error": Canned(0, {}, b"", httpx.RemoteProtocolError(f"illegal header line: {TOKEN}")),
    "the result of an item": Canned(
        200,
        {"content-type": JSON},
        json.dumps(
            {
                "batch": BATCH,
                "results": [
                    {"status": "problem", "problem": {"type": "invalid", "title": TOKEN, "detail": f"by {TOKEN}"}}
                ],
            }
        ).encode(),
    ),
}


@pytest.mark.parametrize("canned", LEAKS.values(), ids=LEAKS)
def test_the_token_is_never_quoted(canned: Canned) -> None:
    """An endpoint that repeats our token in an error puts it into the log, `status`, `queue` and bug reports."""
    answer = ask(canned)
    shown = f"{answer} {answer!r} {getattr(answer, 'hint', '')}"
    assert TOKEN[:8] not in shown


def test_what_is_quoted_is_short_and_printable() -> None:
    """An endpoint must not draw on our terminal, nor fill the log."""
    error = ask(Canned(500, {}, json.dumps({"title": "\x1b[2J\u202e\x9b" + "x" * 10_000}).encode()))
    assert str(error).isprintable()
    assert len(str(error)) < 300


def test_undecodable_features_mean_a_wrong_endpoint() -> None:
    """Any error in the description of an endpoint is raised as one error of the client."""
    transport = CompressingTransport(Canned(200, {"content-type": JSON}, b'{"features": 7}'))
    client = Client("http://127.0.0.1:9", TOKEN, device_id=uuid.UUID(int=1), timeout=3600.0, transport=transport)
    with pytest.raises(WrongEndpoint):
        client.about()
    client.close()
