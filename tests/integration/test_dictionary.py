"""The last push serves as a dictionary. If it is lost, refused or different, everything still arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sessiond.endpoint.dictionary import ENCODING, FEATURE, HEAD, SIZE, extended
from sessiond.errors import EndpointError
from sessiond.upload import bind, upload
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness, encode

SAID = "the watcher lost some events because its queue was full and so the whole tree is looked at once more"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def line(number: int) -> dict:
    """Make a line of a live session: some sentences, and names that differ from line to line."""
    words = SAID.split()
    said = " ".join(words[(number * 7 + at * (number + 3)) % len(words)] for at in range(90))
    return claude(SESSION, number, role="assistant", text=said, requestId=f"req_{number:024x}")


def live(harness: DaemonHarness, *numbers: int) -> list[tuple[int, str, int]]:
    """Append lines and push each at once; return the length of each, and the encoding and length of its push."""
    told = []
    for number in numbers:
        harness.ingest(harness.write(CLAUDE, line(number)))
        asked = len(harness.transport.requests)
        upload(harness.uploading)
        ((_, sent),) = harness.transport.requests[asked:]
        told.append((len(encode(line(number))), harness.transport.encodings[-1], sent))
    return told


def arrived(harness: DaemonHarness) -> bool:
    """Return whether the endpoint has each byte of the session, once, and its record."""
    with open(Path(harness.home) / CLAUDE, "rb") as file:
        content = file.read()
    record = harness.held_sessions()[SESSION]["record"]
    return harness.held(SESSION) == content and record["message_count"] == content.count(b"\n")


def test_a_live_line_travels_in_half_of_its_length(harness: DaemonHarness) -> None:
    """This includes its record and its envelope, most of which was in the push before."""
    harness.push()
    first, *others = live(harness, *range(1, 13))
    assert first[1] == "zstd"
    assert {encoding for _, encoding, _ in others} == {ENCODING}
    assert all(sent < length / 2 for length, _, sent in others), others
    assert arrived(harness)


def test_an_endpoint_that_does_not_offer_it_gets_what_it_always_got(harness: DaemonHarness) -> None:
    """The encodings of the first version suffice."""
    harness.transport.withheld = frozenset({FEATURE})
    harness.push()
    assert {encoding for _, encoding, _ in live(harness, 1, 2, 3)} == {"zstd"}
    assert arrived(harness)


def test_an_endpoint_that_has_forgotten_is_told_at_once_without(harness: DaemonHarness) -> None:
    """After a restart, for example, this costs one more request, and the next line has a dictionary again."""
    harness.push()
    live(harness, 1, 2)
    harness.forget_dictionary()
    harness.write(CLAUDE, line(3))
    harness.scan()
    upload(harness.uploading)
    assert harness.transport.encodings[-2:] == [ENCODING, "zstd"]
    assert live(harness, 4)[0][1] == ENCODING
    assert arrived(harness)


def test_a_lost_answer_takes_the_dictionary_with_it(harness: DaemonHarness) -> None:
    """It is unknown whether the endpoint has the push, so it is sent again without a dictionary."""
    harness.push()
    live(harness, 1, 2)

    def lost(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        send().read()
        harness.transport.fate = None
        raise httpx.ReadError("the connection was cut", request=request)

    harness.write(CLAUDE, line(3))
    harness.scan()
    harness.transport.fate = lost
    before = len(harness.transport.encodings)
    upload(harness.uploading)
    assert harness.transport.encodings[before:] == [ENCODING, "zstd"]
    harness.push()  # it asks for the position of a stream of which the endpoint had a segment already
    assert live(harness, 4)[0][1] == ENCODING
    assert arrived(harness)


@pytest.mark.parametrize("status", [400, 403, 404, 406, 415, 501])
def test_the_dictionary_is_not_used_after_three_refusals(harness: DaemonHarness, status: int) -> None:
    """A proxy may refuse it. Pushes pass without it, and after three tries it is not used until the next query."""

    def refusing(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        if request.headers.get("content-encoding") == ENCODING:
            return httpx.Response(status, stream=httpx.ByteStream(b"what?"))
        return send()

    harness.push()
    harness.transport.fate = refusing
    for number in range(1, 9):
        harness.write(CLAUDE, line(number))
        harness.scan()
        upload(harness.uploading)
    assert arrived(harness)
    assert harness.transport.encodings.count(ENCODING) <= 3
    harness.transport.fate = None
    bind(harness.uploading)
    harness.push()
    assert live(harness, 9)[0][1] == ENCODING


def test_a_refused_token_is_no_fault_of_the_dictionary(harness: DaemonHarness) -> None:
    """The push is repeated once without a dictionary; then the refusal counts."""
    harness.push()
    live(harness, 1, 2)
    harness.write(CLAUDE, line(3))
    harness.scan()
    harness.transport.fate = lambda request, send: httpx.Response(401, stream=httpx.ByteStream(b"{}"))
    with pytest.raises(EndpointError):
        upload(harness.uploading)
    harness.transport.fate = None
    harness.settle()
    assert arrived(harness)


def test_a_dictionary_has_a_bound_and_no_line_fills_it() -> None:
    """It has 16 KiB, at most half of them from one push. A push of a few bytes makes none."""
    assert extended(b"a" * SIZE, b"b" * (1 << 20)) == b"a" * (SIZE - HEAD) + b"b" * HEAD
    assert extended(b"", b"{}\n") == b""
