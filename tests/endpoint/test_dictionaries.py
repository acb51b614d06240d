"""Bodies that are encoded with a dictionary, which is what the device pushed last and nothing else."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from endpoint_lines import DEVICE, OTHER_DEVICE, SESSION, Line, Pusher, append, record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond import zstd
from sessiond.endpoint.dictionary import HEAD, SIZE, extended, pack
from sessiond.endpoint.server import Running, running
from sessiond.endpoint.server.dictionaries import CAPACITY, Dictionaries
from sessiond.endpoint.server.problems import HttpError

MIB = 1 << 20


def body(*lines: Line) -> bytes:
    """Write the lines of a push."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def plain(pusher: Pusher, said: bytes, device: str = DEVICE) -> bytes:
    """Push without a dictionary; return the one that both sides have then."""
    answer = pusher.post("/v1/push", content=said, headers={"Sessiond-Device": device})
    assert answer.status_code == 200
    return extended(b"", said)


def encoded(pusher: Pusher, sent: bytes, device: str = DEVICE) -> httpx.Response:
    """Push a body that is encoded as dcz."""
    headers = {"Content-Encoding": "dcz", "Sessiond-Device": device}
    return pusher.post("/v1/push", content=sent, headers=headers)


def test_each_push_is_the_dictionary_of_the_next(pusher: Pusher) -> None:
    """The push may have any encoding. The newest bytes replace the oldest ones."""
    assert "dictionary" in pusher.get("/v1").json()["features"]
    known, at = plain(pusher, body(record(), append(0, b"x" * 3000))), 3000
    for number in range(2, 9):
        said = body(record(number), append(at, b"%d" % number * 4000))
        answer = encoded(pusher, pack(said, known, 3))
        assert [each["status"] for each in answer.json()["results"]] == ["stored", "stored"]
        known, at = extended(known, said), at + 4000
    assert len(known) == SIZE
    assert len(pusher.bytes_of()) == at


def test_another_dictionary_is_refused_whole(pusher: Pusher) -> None:
    """An older dictionary, another device's or none gets 415 and stores nothing. The body is accepted without it."""
    old = plain(pusher, body(record(), append(0, b"one\n")))
    new = extended(old, body(append(4, b"two\n")))
    assert encoded(pusher, pack(body(append(4, b"two\n")), old, 3)).status_code == 200
    said = body(append(8, b"three\n"))
    for sent, device in [(pack(said, old, 3), DEVICE), (pack(said, new, 3), OTHER_DEVICE)]:
        answer = encoded(pusher, sent, device)
        assert (answer.status_code, answer.json()["type"]) == (415, "unknown-dictionary")
    assert pusher.bytes_of() == b"one\ntwo\n"
    plain(pusher, said)
    assert pusher.bytes_of() == b"one\ntwo\nthree\n"


def test_a_restart_forgets_dictionaries_and_nothing_else(tmp_path: Path) -> None:
    """Dictionaries are in memory only. After a restart the client pushes once without one."""
    with running(str(tmp_path / "endpoint"), token="t" * 32) as it, Pusher(it.url, it.token) as pusher:
        known = plain(pusher, body(record(), append(0, b"one\n")))
    with running(str(tmp_path / "endpoint"), token="t" * 32) as it, Pusher(it.url, it.token) as pusher:
        answer = encoded(pusher, pack(body(append(4, b"two\n")), known, 3))
        assert answer.json()["type"] == "unknown-dictionary"
        plain(pusher, body(append(4, b"two\n")))
        assert pusher.bytes_of() == b"one\ntwo\n"


def test_what_was_erased_is_in_no_dictionary(pusher: Pusher) -> None:
    """The dictionary has the last bytes that were pushed, so none of the user's devices keeps its own."""
    known = plain(pusher, body(record(), append(0, b"one\n")))
    assert pusher.delete(f"/v1/sessions/{record()['record']['machine_id']}/{SESSION}").status_code == 200
    answer = encoded(pusher, pack(body(record(2)), known, 3))
    assert (answer.status_code, answer.json()["type"]) == (415, "unknown-dictionary")


def test_the_dictionaries_of_one_user_are_removed() -> None:
    """Those of other users stay."""
    dictionaries, said = Dictionaries(), extended(b"", b"x" * HEAD)
    sent, device = pack(b"{}", said, 3), UUID(DEVICE)
    for user in ("ada", "grace"):
        dictionaries.keep((user, device), said)
    dictionaries.clear("ada")
    assert dictionaries.split(sent, ("grace", device)) == (said, sent[40:])
    with pytest.raises(HttpError):
        dictionaries.split(sent, ("ada", device))


def test_a_short_push_leaves_no_dictionary(pusher: Pusher) -> None:
    """A push of a few bytes leaves no dictionary, rather than one that can't be used."""
    for said in (b"", b"{}\n", b"x" * 7):
        plain(pusher, said)
        answer = encoded(pusher, pack(body(record()), b"", 3).replace(sha256(b"").digest(), sha256(said).digest()))
        assert (answer.status_code, answer.json()["type"]) == (415, "unknown-dictionary")


def test_a_bomb_with_a_dictionary_is_refused_while_it_unpacks(endpoint: Running, pusher: Pusher) -> None:
    """The limits are those of any body: repeating the dictionary is the cheapest bomb."""
    known = plain(pusher, body(record()))
    bomb = pack(bytes(192 * MIB), known, 3)
    tracemalloc.start()
    answer = encoded(pusher, bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status_code == 413
    assert peak < 48 * MIB
    assert encoded(pusher, pack(body(append(0, b"x")), known, 3)).status_code == 200


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pusher]:
    """Yield an endpoint for many pushes."""
    with running(str(tmp_path_factory.mktemp("shared")), token="t" * 32) as it, Pusher(it.url, it.token) as pusher:
        yield pusher


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_bodies_with_a_dictionary_never_cause_a_failure(shared: Pusher, data: st.DataObject) -> None:
    """A body that is cut, changed, extended or made up is refused or answered line by line, and what is stored has the
    digest of its line.
    """
    device, machine = str(uuid4()), uuid4().hex
    known = plain(shared, body(append(0, b"first " * 20, machine_id=machine)), device)
    good = pack(body(append(120, b"second " * 9, machine_id=machine)), known, 3)
    how = data.draw(st.sampled_from(["cut", "flip", "more", "made up", "other start"]))
    least = 0 if how == "cut" else 40
    at = least + data.draw(st.integers(0, 1 << 16)) % (len(good) - least)
    noise = data.draw(st.binary(min_size=1, max_size=60))
    sent = {
        "cut": good[:at],
        "flip": good[:at] + bytes((good[at] ^ noise[0],)) + good[at + 1 :],
        "more": good + noise,
        "made up": good[:40] + noise,
        "other start": noise + good[len(noise) :],
    }[how]
    answer = encoded(shared, sent, device)
    assert answer.status_code in (200, 400, 413, 415), answer.text
    held = shared.get(f"/v1/sessions/{machine}/0198c0de-0000-7000-8000-000000000001/streams/main").content
    assert held in (b"first " * 20, b"first " * 20 + b"second " * 9)
    assert plain(shared, body(append(120, b"second " * 9, machine_id=machine)), device)


def test_dictionaries_are_bounded() -> None:
    """A client with many device ids displaces only the oldest dictionaries."""
    dictionaries, said = Dictionaries(), extended(b"", b"x" * HEAD)
    devices = [("ada", UUID(int=number)) for number in range(CAPACITY + 10)]
    for device in devices:
        dictionaries.keep(device, said)
    assert len(dictionaries._known) == CAPACITY
    sent = pack(b"{}", said, 3)
    assert dictionaries.split(sent, devices[-1]) == (said, sent[40:])
    with pytest.raises(HttpError):
        dictionaries.split(sent, devices[0])
    with pytest.raises(HttpError):
        dictionaries.split(sent, ("grace", devices[-1][1]))  # the same device id of another user


def test_frames_with_a_prefix_need_that_prefix() -> None:
    """Another prefix gives other bytes."""
    said, one, other = b"the same words again " * 9, b"the same words again, " * 9, b"other words in another order" * 8
    frame = zstd.compress(said, 3, one)
    assert len(frame) < len(zstd.compress(said, 3))
    assert b"".join(zstd.decompress_stream((frame,), len(said), one)) == said
    with pytest.raises(zstd.Oversized):
        list(zstd.decompress_stream((frame,), len(said) - 1, one))
    with suppress(zstd.Undecodable):
        assert b"".join(zstd.decompress_stream((frame,), len(said), other)) != said
