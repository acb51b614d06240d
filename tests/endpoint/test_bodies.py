"""Bodies of requests: encodings, caps, bombs."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import select
import socket
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from endpoint_lines import DEVICE, Pusher, append, record, serving

from sessiond import zstd
from sessiond.endpoint.server import Running
from sessiond.endpoint.server.admission import CHUNK, ChunkedAnswers
from sessiond.endpoint.server.body import Bodies, _Incoming, decode
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.pushes import PUSHES_OF_ONE

if sys.version_info >= (3, 14):
    from compression import zstd as raw_zstd
else:
    from backports import zstd as raw_zstd

MIB = 1 << 20
BOMB = 192 * MIB


def gzip_bomb() -> bytes:
    """Return BOMB zeros, compressed with gzip."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(bytes(MIB)) for _ in range(BOMB // MIB)]) + packer.flush()


def zstd_bomb() -> bytes:
    """Return the same as Zstandard."""
    packer = raw_zstd.ZstdCompressor()
    return b"".join([packer.compress(bytes(MIB)) for _ in range(BOMB // MIB)]) + packer.flush()


def zstd_members() -> bytes:
    """Return many frames of a few bytes each."""
    return zstd.compress(bytes(MIB)) * (BOMB // MIB)


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "identity", "GZIP", ""])
def test_each_encoding_that_is_announced_is_understood(pusher: Pusher, encoding: str) -> None:
    """A client may choose any of them."""
    pack = {"zstd": zstd.compress, "gzip": gzip.compress}.get(encoding.lower(), bytes)
    body = b"\n".join(json.dumps(line).encode() for line in (record(), append(0, b"x\n"))) + b"\n"
    answer = pusher.post("/v1/push", content=pack(body), headers={"Content-Encoding": encoding})
    assert [each["status"] for each in answer.json()["results"]] == ["stored", "stored"]


def test_frames_and_members_in_a_row_are_one_body(pusher: Pusher) -> None:
    """A client may compress its body in several parts."""
    parts = [json.dumps(append(0, b"x\n", stream=name)).encode() + b"\n" for name in "abc"]
    for encoding, pack in (("zstd", zstd.compress), ("gzip", gzip.compress)):
        body = b"".join(pack(part) for part in parts)
        answer = pusher.post("/v1/push", content=body, headers={"Content-Encoding": encoding})
        assert len(answer.json()["results"]) == 3


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "identity"])
def test_a_body_of_exactly_the_limit_is_taken(encoding: str) -> None:
    """A client may send as much as is announced; one byte more is refused."""
    pack = {"zstd": zstd.compress, "gzip": gzip.compress}.get(encoding, bytes)
    assert b"".join(decode(pack(bytes(1000)), encoding, 1000)) == bytes(1000)
    with pytest.raises(HttpError) as refused:
        list(decode(pack(bytes(1001)), encoding, 1000))
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [("gzip", gzip_bomb), ("zstd", zstd_bomb), ("zstd", zstd_members)],
    ids=["gzip", "zstd", "members"],
)
def test_a_bomb_is_refused_while_it_unpacks(encoding: str, bomb: object) -> None:
    """Bytes beyond the limit never reach memory."""
    assert callable(bomb)
    body = bomb()
    tracemalloc.start()
    with pytest.raises(HttpError) as refused:
        list(decode(body, encoding, 2 * MIB))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.status == 413
    assert peak < 8 * MIB


def test_bodies_over_the_cap_are_refused_before_they_are_read(pusher: Pusher) -> None:
    """The length may be declared or not, the body compressed or not. The endpoint goes on afterwards."""

    def undeclared() -> Iterator[bytes]:
        for _ in range(9):
            yield bytes(MIB)

    for body in (bytes(8 * MIB + 1), undeclared()):
        answer = pusher.post("/v1/push", content=body)
        assert (answer.status_code, answer.json()["type"]) == (413, "too-large")
        assert answer.headers["content-type"] == "application/problem+json"
    answer = pusher.post("/v1/push", content=zstd_bomb(), headers={"Content-Encoding": "zstd"})
    assert answer.status_code == 413
    assert pusher.said(append(0, b"x")) == ["stored"]


def test_a_body_that_is_not_what_its_encoding_says_is_refused_whole(pusher: Pusher) -> None:
    """Nothing of a torn push is stored: the client sends it again."""
    body = b"\n".join(json.dumps(append(n, b"x")).encode() for n in range(200))
    wide = raw_zstd.ZstdCompressor(options={raw_zstd.CompressionParameter.window_log: 27})
    for encoding, sent in [
        ("zstd", zstd.compress(body)[:-3]),
        ("gzip", gzip.compress(body)[:-9]),
        ("gzip", gzip.compress(body) + b"tail"),
        ("zstd", zstd.compress(body) + b"tail"),
        ("zstd", body),
        ("gzip", body),
        ("zstd", wide.compress(body) + wide.flush()),
        ("zstd", zstd.compress(b"") * 300),
        ("gzip", gzip.compress(b"") * 300),
    ]:
        answer = pusher.post("/v1/push", content=sent, headers={"Content-Encoding": encoding})
        assert (answer.status_code, answer.json()["type"]) == (400, "malformed")
    assert pusher.get("/v1/changes").json()["sessions"] == []
    assert pusher.said(append(0, b"x")) == ["stored"]


def test_other_encodings_and_kinds_are_refused_with_what_is_taken(pusher: Pusher) -> None:
    """The answer 415 names the accepted ones."""
    answer = pusher.post("/v1/push", content=b"", headers={"Content-Encoding": "br"})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "zstd, gzip, identity"
    answer = pusher.post("/v1/push", content=b"<html>", headers={"Content-Type": "text/html; charset=utf-8"})
    assert answer.status_code == 415
    assert "application/x-ndjson" in answer.json()["detail"]
    assert pusher.post("/v1/offsets", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415


def test_headers_of_a_push_are_checked(pusher: Pusher) -> None:
    """A batch id that can't be sent back is refused, and so is a device id that is not a UUID."""
    assert pusher.post("/v1/push", headers={"Sessiond-Batch": "x" * 201}).status_code == 400
    assert pusher.post("/v1/push", headers={"Sessiond-Device": "laptop"}).status_code == 400


def test_zstd_decodes_in_parts_of_any_size() -> None:
    """A stream that arrives byte by byte decodes to the same bytes."""
    plain = bytes(range(256)) * 1000
    packed = zstd.compress(plain) + zstd.compress(b"tail")
    whole = b"".join(zstd.decompress_stream((packed[at : at + 1] for at in range(len(packed))), len(plain) + 4))
    assert whole == plain + b"tail"
    with pytest.raises(zstd.Oversized):
        zstd.decompress(packed, len(plain) + 3)
    with pytest.raises(zstd.Undecodable):
        zstd.decompress(b"", 10)


def begin_push(endpoint: Running, *, declared: int, sent: bytes) -> socket.socket:
    """Send the head of a push and a part of its body, and leave it there."""
    host, port = endpoint.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    head = (
        f"POST /v1/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {endpoint.token}\r\nSessiond-Device: {DEVICE}\r\n"
    )
    connection.sendall(head.encode() + f"Content-Length: {declared}\r\n\r\n".encode() + sent)
    return connection


def test_a_client_that_goes_away_leaves_nothing_behind(
    endpoint: Running, pusher: Pusher, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of half a push is stored, and it is no error of the endpoint."""
    line = json.dumps(append(0, b"half\n")).encode() + b"\n"
    for _ in range(3):
        begin_push(endpoint, declared=2 * len(line), sent=line).close()
    assert pusher.said(append(0, b"whole\n")) == ["stored"]
    assert pusher.bytes_of() == b"whole\n"
    assert caplog.records == []


def test_too_many_pushes_at_once_are_told_to_come_back(endpoint: Running, pusher: Pusher) -> None:
    """To bound memory, clients are refused with a time to come back. Readers are not affected."""
    assert pusher.said(append(0, b"x")) == ["stored"]
    line = json.dumps(append(0, b"x")).encode()
    more = 5
    with endpoint.store.write():  # no other writer can: every admitted push waits for its turn
        sent = [begin_push(endpoint, declared=len(line), sent=line) for _ in range(PUSHES_OF_ONE + more)]
        refused = [select.select(sent, [], [], 60)[0] and answer_of(sent) for _ in range(more)]
        assert pusher.get("/v1/sessions").status_code == 200
    assert [answer.split(b"\r\n")[0] for answer in refused] == [b"HTTP/1.1 503 Service Unavailable"] * more
    assert all(re.search(rb"retry-after: [1-5]\r\n", answer) and b'"type":"busy"' in answer for answer in refused)
    assert len(sent) == PUSHES_OF_ONE
    assert [answer_of(sent).split(b"\r\n")[0] for _ in range(PUSHES_OF_ONE)] == [b"HTTP/1.1 200 OK"] * PUSHES_OF_ONE
    assert pusher.said(append(0, b"x")) == ["duplicate"]


def answer_of(connections: list[socket.socket]) -> bytes:
    """Read the whole answer of the first connection that has one, and close it."""
    ready = select.select(connections, [], [], 60)[0][0]
    connections.remove(ready)
    answer = b""
    with ready:
        while not answer.endswith(b"}"):
            answer += ready.recv(65536)
    return answer


@pytest.mark.parametrize("slow", [{"seconds": 0.05}, {"stall": 0.05}])
def test_a_body_that_does_not_arrive_in_time_is_answered_408(tmp_path: Path, slow: dict[str, float]) -> None:
    """The body has a limit for the whole and one for each part: a slower client would hold memory in vain."""
    with serving(tmp_path, bodies=Bodies(**slow)) as it:
        connection = begin_push(it, declared=1000, sent=b"{")
        status, problem = answer_of([connection]).split(b"\r\n", 1)
        assert (status, b'"type":"too-slow"' in problem) == (b"HTTP/1.1 408 Request Timeout", True)


def test_a_body_that_drips_in_time_is_taken(endpoint: Running) -> None:
    """Each part extends the time for the next one."""
    line = json.dumps(append(0, b"x")).encode()
    connection = begin_push(endpoint, declared=len(line), sent=line[:5])
    for at in range(5, len(line)):
        connection.sendall(line[at : at + 1])
    assert answer_of([connection]).startswith(b"HTTP/1.1 200 OK")


def test_the_oldest_body_of_the_client_with_the_most_bytes_is_dropped() -> None:
    """The oldest body of all may stay: a client with one small body must not pay for another one's many."""

    async def receive() -> list[bool]:
        bodies = Bodies(100)
        incoming = [_Incoming(client, asyncio.timeout(60)) for client in ("few", "many", "many", "new")]
        async with AsyncExitStack() as receiving:
            for each, size in zip(incoming, (10, 30, 60, 20), strict=True):
                await receiving.enter_async_context(each.timeout)
                bodies._incoming[each] = None
                bodies._reserve(each, size)
            dropped = [each.dropped for each in incoming]
            for each in incoming:
                each.timeout.reschedule(None)
        return dropped

    assert asyncio.run(receive()) == [False, True, False, False]


@pytest.mark.parametrize(("size", "last"), [(2 * CHUNK, CHUNK), (2 * CHUNK + 1, 1), (CHUNK, CHUNK)])
def test_the_last_chunk_of_an_answer_ends_it(size: int, last: int) -> None:
    """An answer without an end would hold its connection, even if its chunks fit exactly."""
    sent: list[Any] = []

    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.body", "body": bytes(size)})

    async def note(message: Any) -> None:
        sent.append((len(message["body"]), message.get("more_body", False)))

    asyncio.run(ChunkedAnswers(answer)({"type": "http"}, note, note))
    assert sent == [(CHUNK, True)] * (len(sent) - 1) + [(last, False)]
    assert sum(length for length, _ in sent) == size


def test_half_sent_bodies_make_room_for_whole_ones(tmp_path: Path) -> None:
    """The oldest body of the client with the most bytes is refused, and the others are not."""
    line = json.dumps(append(0, b"x" * 3000)).encode()
    with serving(tmp_path, bodies=Bodies(4 * len(line))) as it, Pusher(it.url, it.token) as pusher:
        half = [begin_push(it, declared=2 * len(line), sent=line) for _ in range(3)]
        said = [json.dumps(append(0, b"y" * 3000, stream=name)).encode() for name in ("b", "c")]
        while select.select(half, [], [], 0)[0] == []:  # until all three have arrived, there is room for both
            assert pusher.post("/v1/push", content=b"\n".join(said)).status_code == 200
        assert answer_of(half).startswith(b"HTTP/1.1 503 Service Unavailable")
        for connection in half:
            connection.close()
