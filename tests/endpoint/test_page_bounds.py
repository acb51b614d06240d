"""Pages, quotas and parameters of any size."""

from __future__ import annotations

import base64
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from endpoint_lines import SESSION, Pusher, append, generation, record
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.endpoint.server import Running, records, running
from sessiond.endpoint.server.limits import MAX_GENERATIONS, MAX_STREAMS
from sessiond.errors import WrongEndpoint

MIB = 1 << 20


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pusher]:
    """Yield a client of an endpoint with a session, for all examples."""
    with running(str(tmp_path_factory.mktemp("store"))) as it, Pusher(it.url, it.token) as pusher:
        assert pusher.said(record(), append(0, b"0123456789")) == ["stored"] * 2
        yield pusher


def test_pages_end_after_some_bytes_and_miss_nothing(endpoint: Running, pusher: Pusher) -> None:
    """The titles have nearly a megabyte: each page has one record at least, and all pages together have all records."""
    ids = [str(uuid.UUID(int=number + 1)) for number in range(7)]
    for number, one in enumerate(ids):
        line = record(id=one, started_at=f"2026-11-{number + 1:02}T10:00:00Z") | {"title": "x" * (MIB - 2000)}
        assert pusher.said(line) == ["stored"]
    for path, key in (("/v1/sessions", "after"), ("/v1/changes", "since")):
        seen: list[str] = []
        query: dict[str, str] = {}
        while True:
            answer = pusher.get(path, params=query)
            assert len(answer.content) < 3 * MIB
            page = answer.json()
            assert page["sessions"]
            seen += [each["record"]["id"] for each in page["sessions"]]
            if not page.get("more", page["next"] is not None):
                break
            query = {key: page["next"]}
        assert sorted(seen) == ids
        assert len(seen) == len(ids)


def test_the_quota_holds_for_everything(tmp_path: Path) -> None:
    """Transcripts are refused first, records use the space that is reserved for them, and then nothing grows."""
    title = random.Random(3).randbytes(20_000).hex()
    with running(str(tmp_path), quota=3 * MIB) as it, Pusher(it.url, it.token) as pusher:
        raw = random.Random(2).randbytes(300_000).hex().encode()
        offset = 0
        while (said := pusher.said(append(offset, raw))) == ["stored"]:
            offset += len(raw)
        assert said == ["quota"]
        revision, said = 1, ["stored"]
        while said == ["stored"] and revision < 50:
            line = record(revision, id=str(uuid.UUID(int=revision))) | {"title": title}
            said = pusher.said(line)
            revision += 1
        assert said == ["quota"]
        assert pusher.said(generation(1, 0, 5)) == ["quota"]
        assert pusher.bytes_of() == raw * (offset // len(raw))
    assert (tmp_path / "endpoint.db").stat().st_size < 4 * MIB


def test_a_list_of_streams_is_bounded_and_complete(endpoint: Running, pusher: Pusher) -> None:
    """A page of the streams of a session ends after 2 MiB, also within the generations of one stream."""
    names = [f"{number:04}{'ü' * 190}" for number in range(4500)]
    assert pusher.said(record()) == ["stored"]
    left = [append(0, b"x", stream=name) for name in names]
    left += [generation(number, 0, 1, stream=names[7]) for number in range(1, 30)]
    while left:
        results = pusher.said(*left[:1000])
        assert set(results) <= {"stored", "push-full"}
        left = [line for line, result in zip(left, results, strict=False) if result == "push-full"] + left[1000:]
    path = f"/v1/sessions/ada/{SESSION}/streams"
    first = pusher.get(path)
    assert first.json()["next"] is not None
    assert len(first.content) < 3 * MIB
    with endpoint.store.read() as db:
        after = base64.urlsafe_b64encode(json.dumps(["0007" + "ü" * 190, 11]).encode()).rstrip(b"=").decode()
        page = records.list_streams(db, "default", "ada", SESSION, after)
    assert [each.generation for each in page.streams[0].generations] == list(range(12, 30))
    client = ReadClient(endpoint.url, endpoint.token, device_id=uuid.uuid4())
    found = client.streams("ada", uuid.UUID(SESSION))
    client.close()
    assert [each.name for each in found] == names
    assert [len(each.generations) for each in found] == [30 if number == 7 else 1 for number in range(4500)]
    assert pusher.get(path, params={"after": "x"}).status_code == 400


class Endless(httpx.BaseTransport):
    """Answers every request for streams with the same page."""

    def __init__(self, page: wire.StreamsAnswer) -> None:
        self.page = page

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the page."""
        body = msgspec.json.encode(self.page)
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=httpx.ByteStream(body))


@pytest.mark.parametrize("token", ["again", "x" * 70_000])
def test_a_list_without_an_end_is_refused(token: str) -> None:
    """A list that repeats itself and a position that is too long for a URL are errors, and never stop the client."""
    listed = [wire.Generation(generation=0, previous=None, keep=0, length=1)] * 1000
    page = wire.StreamsAnswer(streams=[wire.StoredStream(name="main", generations=listed)], next=token)
    client = ReadClient("http://127.0.0.1:9", None, device_id=uuid.uuid4(), transport=Endless(page))
    with pytest.raises(WrongEndpoint):
        client.streams("ada", uuid.UUID(SESSION))
    client.close()


def test_a_session_has_a_limit_of_streams(endpoint: Running, pusher: Pusher) -> None:
    """Each answer about a session lists its streams. Those that exist still grow."""
    assert pusher.said(append(0, b"x")) == ["stored"]
    with endpoint.store.write() as db:
        rows = [("default", "ada", SESSION, f"agents/{number}") for number in range(MAX_STREAMS - 1)]
        db.executemany("INSERT INTO streams (user, machine, session, name) VALUES (?, ?, ?, ?)", rows)
    lines = [append(0, b"x", stream="one more"), generation(1, None, 0, stream="one more"), append(1, b"y")]
    assert pusher.said(*lines) == ["invalid", "invalid", "stored"]


def test_a_stream_has_a_limit_of_generations(endpoint: Running, pusher: Pusher) -> None:
    """Each answer about a stream lists them. Those that exist still grow, and numbers may be skipped."""
    assert pusher.said(append(0, b"x")) == ["stored"]
    with endpoint.store.write() as db:
        rows = [(1, number, 0, 1, 0, 1) for number in range(1, MAX_GENERATIONS - 1)]
        db.executemany(
            "INSERT INTO generations (stream, generation, previous, keep, base, length) VALUES (?, ?, ?, ?, ?, ?)", rows
        )
    last = 5 * MAX_GENERATIONS
    assert pusher.said(generation(last, 0, 1)) == ["stored"]
    (refused,) = pusher.lines(generation(last + 1, 0, 1))
    assert refused["problem"]["type"] == "invalid"
    assert f"{MAX_GENERATIONS} generations" in refused["problem"]["detail"]
    assert pusher.said(generation(last, 0, 1), append(1, b"y", generation=last)) == ["duplicate", "stored"]
    assert pusher.said(append(0, b"x", stream="other"), generation(last, 0, 1, stream="other")) == ["stored"] * 2


def test_skipped_numbers_are_not_counted_as_generations(pusher: Pusher) -> None:
    assert pusher.said(append(0, b"x"), generation(5 * MAX_GENERATIONS, 0, 1)) == ["stored"] * 2
    assert pusher.said(generation(5 * MAX_GENERATIONS + 1, 0, 1)) == ["stored"]


def test_machines_and_devices_need_space_in_the_quota(tmp_path: Path) -> None:
    """A line that stores nothing else adds a row for its machine, and a push one for its device."""
    with running(str(tmp_path), quota=MIB) as it, Pusher(it.url, it.token) as pusher:
        raw = random.Random(2).randbytes(50_000).hex().encode()
        offset = 0
        while pusher.said(append(offset, raw)) == ["stored"]:
            offset += len(raw)
        title, revision = random.Random(3).randbytes(200).hex(), 1
        while pusher.said(record(revision, id=str(uuid.UUID(int=revision))) | {"title": title}) == ["stored"]:
            revision += 1
        refused = [generation(1, 0, 5, machine_id=f"m{number}") for number in range(20)]
        assert set(pusher.said(*refused)) == {"quota"}
        with Pusher(it.url, it.token, str(uuid.uuid4())) as other:
            other.said(append(0, b"x", machine_id="other"))
        with it.store.read() as db:
            counts = [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("machines", "devices")]
    assert counts == [1, 1]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_a_cursor_beyond_what_the_store_can_compare_is_refused(shared: Pusher, number: int) -> None:
    """The answer is 400, and never a failure of the endpoint."""
    sealed = base64.urlsafe_b64encode(json.dumps([number, "ada", SESSION]).encode()).rstrip(b"=").decode()
    assert shared.get("/v1/sessions", params={"after": sealed}).status_code == 400
    sealed = base64.urlsafe_b64encode(json.dumps([str(uuid.uuid4()), number]).encode()).rstrip(b"=").decode()
    assert shared.get("/v1/changes", params={"since": sealed}).status_code == 410


ANYTHING = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.integers().map(str),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.recursive(st.one_of(st.none(), st.integers(), st.text(st.characters(codec="utf-8"), max_size=9)), st.lists).map(
        lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
    ),
    st.tuples(st.integers(), st.just("ada"), st.just(SESSION)).map(
        lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from(["/v1/sessions", "/v1/changes", f"/v1/sessions/ada/{SESSION}/streams/main"]),
    query=st.dictionaries(
        st.sampled_from(["tool", "machine_id", "since", "text", "after", "limit", "generation", "x"]),
        ANYTHING,
        max_size=3,
    ),
    wanted=st.one_of(
        st.just(""), st.tuples(st.integers(), st.integers()).map(lambda pair: f"bytes={pair[0]}-{pair[1]}")
    ),
)
def test_no_parameter_makes_the_endpoint_fail(shared: Pusher, path: str, query: dict[str, str], wanted: str) -> None:
    """Every request gets an answer or a 4xx problem, never a 5xx."""
    answer = shared.get(path, params=query, headers={"Range": wanted} if wanted else {})
    missing = {404} if "generation" in query else set()  # a number without a generation
    assert answer.status_code in {200, 206, 400, 410, 416} | missing
