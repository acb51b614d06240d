"""Requests that find stored sessions: list, one, changes, streams, ranges, offsets."""

from __future__ import annotations

import hashlib
import uuid

import httpx
import pytest
from endpoint_lines import SESSION, Pusher, append, generation, record

from sessiond.endpoint.server import Running


def fill(pusher: Pusher, count: int) -> list[str]:
    """Push `count` sessions, a day apart, the newest last."""
    ids = [str(uuid.UUID(int=number + 1)) for number in range(count)]
    pusher.said(
        *(
            record(
                id=ids[number],
                tool=("codex", "cursor")[number % 2],
                started_at=f"2026-11-{number + 1:02}T10:00:00Z",
                ended_at=None if number == 0 else f"2026-11-{number + 1:02}T11:00:00+00:00",
                working_directory=f"/home/ada/Project_{number % 3}",
            )
            for number in range(count)
        )
    )
    return ids


def ids_of(pusher: Pusher, path: str, **query: str | int) -> list[str]:
    """List the ids of the sessions in an answer."""
    answer = pusher.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return [each["record"]["id"] for each in answer.json()["sessions"]]


def test_sessions_are_listed_newest_first_and_page_by_page(pusher: Pusher) -> None:
    """Every session is listed once, for any size of the pages."""
    ids = fill(pusher, 7)
    for limit in (1, 3, 7, 100):
        seen: list[str] = []
        after: dict[str, str] = {}
        while True:
            answer = pusher.get("/v1/sessions", params={"limit": limit} | after).json()
            seen += [each["record"]["id"] for each in answer["sessions"]]
            if answer["next"] is None:
                break
            after = {"after": answer["next"]}
        assert seen == ids[::-1]


def test_sessions_are_filtered(pusher: Pusher) -> None:
    """The filters are the tool, the machine, the time and a part of the directory; all of them must match."""
    ids = fill(pusher, 6)
    assert ids_of(pusher, "/v1/sessions", tool="cursor") == [ids[5], ids[3], ids[1]]
    assert ids_of(pusher, "/v1/sessions", machine_id="grace") == []
    assert ids_of(pusher, "/v1/sessions", text="project_1") == [ids[4], ids[1]]
    assert ids_of(pusher, "/v1/sessions", text="%") == []
    assert ids_of(pusher, "/v1/sessions", tool="cursor", text="PROJECT_1") == [ids[1]]
    assert ids_of(pusher, "/v1/sessions", since="2026-11-05T11:00:00Z") == [ids[5], ids[4], ids[0]]
    assert ids_of(pusher, "/v1/sessions", since="2026-11-05T13:00:01+02:00") == [ids[5], ids[0]]


def test_sessions_are_filtered_by_what_their_records_say(pusher: Pusher) -> None:
    """The filters are the beginning of the id, the start, the branch, a part of the model's name, and whether the tool
    has the session.
    """
    ids = [str(uuid.UUID(int=number << 124 | 1)) for number in (1, 2, 3)]
    lines = [
        record(id=each, git_branch=branch, model=model, started_at=f"2026-11-0{day}T10:00:00Z")
        for each, branch, model, day in zip(
            ids, ("main", "tides", None), ("gpt-5", "Opus-4", None), (1, 2, 3), strict=True
        )
    ]
    lines[1]["gone_at"] = 5
    pusher.said(*lines)
    assert ids_of(pusher, "/v1/sessions", id=ids[1][:1]) == ids_of(pusher, "/v1/sessions", id=ids[1]) == [ids[1]]
    assert ids_of(pusher, "/v1/sessions", id=ids[0][:3].upper()) == [ids[0]]
    assert ids_of(pusher, "/v1/sessions", id="9") == []
    assert ids_of(pusher, "/v1/sessions", until="2026-11-02T10:00:00Z") == [ids[0]]
    assert ids_of(pusher, "/v1/sessions", branch="tides") == ids_of(pusher, "/v1/sessions", model="opus") == [ids[1]]
    assert ids_of(pusher, "/v1/sessions", branch="tide") == []
    assert ids_of(pusher, "/v1/sessions", gone="true") == [ids[1]]
    assert ids_of(pusher, "/v1/sessions", id="2", gone="true", branch="main") == []
    for wrong in ({"id": ""}, {"id": "1_"}, {"gone": "false"}, {"sort": "size"}, {"until": "noon"}):
        assert pusher.get("/v1/sessions", params=wrong).status_code == 400


def test_sessions_are_listed_by_their_last_activity(pusher: Pusher) -> None:
    """An ongoing session counts by its last record, so one that a dead machine never ended does not stay first."""
    hour = 1_793_527_200_000  # 2026-11-01T10:00:00Z
    times = [("10:00", "11:00", 1), ("10:30", None, 1), ("09:00", "10:45", 1), ("08:00", None, hour + 7_200_000)]
    ids = [str(uuid.UUID(int=number + 1)) for number in range(len(times))]
    pusher.said(
        *(
            record(
                revision,
                id=each,
                started_at=f"2026-11-01T{start}:00Z",
                ended_at=None if end is None else f"2026-11-01T{end}:00Z",
            )
            for each, (start, end, revision) in zip(ids, times, strict=True)
        )
    )
    expected = [ids[3], ids[0], ids[2], ids[1]]
    assert ids_of(pusher, "/v1/sessions", sort="active") == expected
    seen, after = [], {}
    for _ in expected:
        answer = pusher.get("/v1/sessions", params={"limit": 1, "sort": "active"} | after).json()
        seen += [each["record"]["id"] for each in answer["sessions"]]
        after = {"after": answer["next"]}
        if answer["next"]:  # a position of one order means nothing in the other
            assert pusher.get("/v1/sessions", params=after).status_code == 400
    assert (seen, after) == (expected, {"after": None})


def test_a_session_is_shown_with_what_is_held_of_it(pusher: Pusher) -> None:
    """The answer has the record as it was pushed, and beside it what the endpoint has stored."""
    line = record(3) | {
        "title": "Fix the engine",
        "parent": str(uuid.UUID(int=9)),
        "gone_at": 1_700_000_000_000,
        "prompts_only": True,
        "continues": {"machine_id": "bob", "id": str(uuid.UUID(int=8))},
        "streams": [{"name": "main", "generation": 1, "length": 40}],
    }
    pusher.said(line, append(0, b"one\ntwo\n"), generation(1, 0, 4), append(0, b"x", stream="agents/a 1"))
    shown = pusher.get(f"/v1/sessions/ada/{SESSION}").json()
    held = [{"name": "agents/a 1", "generation": 0, "length": 1}, {"name": "main", "generation": 1, "length": 4}]
    assert shown == {key: value for key, value in line.items() if key != "op"} | {"held": held}
    assert pusher.bytes_of("agents%2Fa%201") == b"x"


def test_a_record_of_prompts_alone_never_replaces_a_whole_one(pusher: Pusher) -> None:
    """A client that does not know the field pushes whole sessions; anything but a boolean is refused."""
    assert pusher.said(record(1) | {"prompts_only": True}, record(2) | {"prompts_only": True}) == ["stored"] * 2
    assert pusher.said(record(3)) == ["stored"]
    assert not pusher.get(f"/v1/sessions/ada/{SESSION}").json()["prompts_only"]
    assert pusher.said(record(4) | {"prompts_only": True}, record(2) | {"prompts_only": True}) == ["duplicate"] * 2
    assert pusher.get(f"/v1/sessions/ada/{SESSION}").json()["revision"] == 3
    assert pusher.said(record(5)) == ["stored"]
    assert pusher.said(record(6) | {"prompts_only": "yes"}) == ["invalid"]


def test_a_continued_session_names_a_machine(pusher: Pusher) -> None:
    """A name that no record can have is refused."""
    origin = {"machine_id": "", "id": SESSION}
    assert pusher.said(record(1) | {"continues": origin}, record(2) | {"continues": SESSION}) == ["invalid"] * 2
    assert pusher.said(record(3)) == ["stored"]
    assert pusher.get(f"/v1/sessions/ada/{SESSION}").json()["continues"] is None


def test_streams_without_a_record_are_not_listed_as_sessions(pusher: Pusher) -> None:
    """A record may come after its transcript; until then readers see no session."""
    pusher.said(append(0, b"x"))
    assert ids_of(pusher, "/v1/sessions") == ids_of(pusher, "/v1/changes") == []
    assert pusher.get(f"/v1/sessions/ada/{SESSION}").status_code == 404
    pusher.said(record())
    assert ids_of(pusher, "/v1/sessions") == ids_of(pusher, "/v1/changes") == [SESSION]


def test_changes_tell_every_session_once_after_its_last_change(pusher: Pusher) -> None:
    """A reader that follows `next` misses nothing, and sees a session again only if it changed again."""
    ids = fill(pusher, 5)
    first = pusher.get("/v1/changes", params={"limit": 3}).json()
    assert ([each["record"]["id"] for each in first["sessions"]], first["more"]) == (ids[:3], True)
    pusher.said(append(0, b"x", session=ids[0]), record(9, id=ids[4]))
    second = pusher.get("/v1/changes", params={"since": first["next"]}).json()
    assert ([each["record"]["id"] for each in second["sessions"]], second["more"]) == ([ids[3], ids[0], ids[4]], False)
    pusher.said(append(0, b"x", session=ids[0]), record(8, id=ids[4]))
    third = pusher.get("/v1/changes", params={"since": second["next"]}).json()
    assert (third["sessions"], third["more"]) == ([], False)
    assert third["next"] == second["next"]


def test_a_position_of_another_endpoint_is_refused(pusher: Pusher, endpoint: Running) -> None:
    """After a restored backup a reader begins again, instead of missing what comes."""
    fill(pusher, 2)
    place = pusher.get("/v1/changes").json()["next"]
    with endpoint.store.write() as db:
        db.execute("UPDATE users SET change = 1")
    for since in (place, "nonsense", "", "WzEsMl0", "é"):
        answer = pusher.get("/v1/changes", params={"since": since})
        assert (answer.status_code, answer.json()["type"]) == (410, "unknown-place")
    assert pusher.get("/v1/sessions", params={"after": place}).status_code == 400


@pytest.mark.parametrize(
    ("wanted", "status", "got"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=3-3", 206, b"3"),
        ("bytes=7-", 206, b"789"),
        ("bytes=7-99", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=-99", 206, b"0123456789"),
        ("bytes=10-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=4-3", 200, b"0123456789"),
        ("bytes=0-1,4-5", 200, b"0123456789"),
        ("lines=0-1", 200, b"0123456789"),
        ("bytes=-", 200, b"0123456789"),
    ],
)
def test_ranges_of_a_stream(pusher: Pusher, wanted: str, status: int, got: bytes | None) -> None:
    """A restore that was cut off goes on where it was."""
    pusher.said(append(0, b"01234"), append(5, b"56789"))
    path = f"/v1/sessions/ada/{SESSION}/streams/main"
    answer = pusher.get(path, headers={"Range": wanted})
    assert answer.status_code == status
    if got is None:
        assert answer.headers["content-range"] == "bytes */10"
    else:
        assert answer.content == got
        assert answer.headers["content-length"] == str(len(got))
        assert answer.headers["sessiond-generation"] == "0"
    head = pusher.head(path, headers={"Range": wanted})
    assert (head.status_code, head.content) == (status, b"")


def test_a_range_of_a_stream_that_grew_is_not_mixed_up(pusher: Pusher) -> None:
    """If the state in If-Range is not the present one, the whole stream is sent."""
    pusher.said(append(0, b"01234"))
    path = f"/v1/sessions/ada/{SESSION}/streams/main"
    etag = pusher.get(path).headers["etag"]
    assert pusher.get(path, headers={"Range": "bytes=1-2", "If-Range": etag}).content == b"12"
    pusher.said(append(5, b"56789"))
    assert pusher.get(path, headers={"Range": "bytes=1-2", "If-Range": etag}).content == b"0123456789"


def test_a_large_stream_comes_whole(pusher: Pusher) -> None:
    """The stream is longer than one read from the store."""
    part = hashlib.sha256(b"x").hexdigest().encode() * 30_000
    for number in range(5):
        assert pusher.said(append(number * len(part), part)) == ["stored"]
    assert pusher.bytes_of() == part * 5


def test_offsets_are_the_positions_of_streams(pusher: Pusher) -> None:
    """A client that lost its spool learns where to go on."""
    pusher.said(
        append(0, b"one\n"), append(4, b"two\n"), append(0, b"old", stream="b"), generation(4, 0, 2, stream="b")
    )
    asked = [{"session": SESSION, "stream": name} for name in ("b", "nothing", "main")]
    answer = pusher.post("/v1/offsets", json={"machine_id": "ada", "streams": asked}).json()["streams"]
    assert [(each["stream"], each["generation"], each["length"]) for each in answer] == [
        ("b", 4, 2),
        ("nothing", None, 0),
        ("main", 0, 8),
    ]
    digests = [hashlib.sha256(b"ol").hexdigest(), None, hashlib.sha256(b"one\ntwo\n").hexdigest()]
    assert [each["sha256"] for each in answer] == digests
    bad = [{}, {"machine_id": "ada"}, {"machine_id": "ada", "streams": [{"session": "x", "stream": "main"}]}]
    assert [pusher.post("/v1/offsets", json=each).status_code for each in bad] == [400] * 3
    many = {"machine_id": "ada", "streams": asked[:1] * 1001}
    assert pusher.post("/v1/offsets", json=many).status_code == 413


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/v2/push", 404),
        ("/v1/sessions/ada/main", 404),
        (f"/v1/sessions/ada/{SESSION}", 404),
        (f"/v1/sessions/ada/{SESSION}/streams", 404),
        (f"/v1/sessions/ada/{SESSION}/streams/main", 404),
        (f"/v1/sessions/ada/{SESSION}/streams/a/..%2Fb", 400),
        (f"/v1/sessions/%01/{SESSION}", 400),
        ("/v1/sessions?limit=0", 400),
        ("/v1/sessions?limit=1001", 400),
        ("/v1/sessions?limit=x", 400),
        ("/v1/sessions?limit=1&limit=2", 400),
        ("/v1/sessions?since=yesterday", 400),
        ("/v1/sessions?since=2026-11-05T11:00:00", 400),
        ("/v1/sessions?owner=ada", 400),
        ("/v1/sessions?user=ada", 403),
        ("/v1/push", 405),
    ],
)
def test_invalid_queries_are_answered_with_a_problem(pusher: Pusher, path: str, status: int) -> None:
    """The answer follows RFC 9457, with the reason in words."""
    answer = pusher.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert answer.json()["detail"]


def test_the_description_of_the_endpoint_needs_no_token(endpoint: Running) -> None:
    """A client finds out whether it has the right address before it has a token."""
    about = httpx.get(f"{endpoint.url}/v1", timeout=60).json()
    assert (about["service"], about["protocol"]) == ("sessiond", 1)
    assert about["endpoint_id"] == str(endpoint.store.endpoint_id)
    assert about["encodings"] == ["zstd", "gzip", "identity"]
