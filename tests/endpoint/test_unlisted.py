"""The list of sessions that have bytes but no record, so that everything that is stored can be found."""

from __future__ import annotations

import uuid
from typing import Any

from endpoint_lines import DEVICE, SESSION, Pusher, append, record

from sessiond.endpoint.read_client import ReadClient
from sessiond.endpoint.server import Running, tokens
from sessiond.endpoint.server.pages import PAGE


def unlisted(pusher: Pusher, **query: object) -> dict[str, Any]:
    """Return one page."""
    answer = pusher.get("/v1/unlisted", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_session_is_listed_here_until_its_record_arrives(pusher: Pusher) -> None:
    assert unlisted(pusher) == {"sessions": [], "next": None}
    assert pusher.said(append(0, b"abc"), append(0, b"d", stream="agents/a1")) == ["stored"] * 2
    held = [{"name": "agents/a1", "generation": 0, "length": 1}, {"name": "main", "generation": 0, "length": 3}]
    (session,) = unlisted(pusher)["sessions"]
    session["held"].sort(key=lambda each: each["name"])
    assert session == {"machine_id": "ada", "session": SESSION, "held": held}
    assert pusher.get("/v1/sessions").json()["sessions"] == []
    assert pusher.said(record()) == ["stored"]
    assert unlisted(pusher) == {"sessions": [], "next": None}
    assert len(pusher.get("/v1/sessions").json()["sessions"]) == 1


def test_pages_miss_nothing(endpoint: Running, pusher: Pusher) -> None:
    """Sessions with a record are between them, and several machines may have a session of one id."""
    wanted = []
    for number in range(12):
        session = str(uuid.UUID(int=number))
        for machine in ("ada", "box"):
            assert pusher.said(append(0, b"x", session=session, machine_id=machine)) == ["stored"]
            if number % 3:
                wanted.append((machine, session))
            else:
                assert pusher.said(record(id=session, machine_id=machine)) == ["stored"]
    found, after = [], None
    while True:
        page = unlisted(pusher, limit=3) if after is None else unlisted(pusher, limit=3, after=after)
        assert len(page["sessions"]) <= 3
        found += [(each["machine_id"], each["session"]) for each in page["sessions"]]
        after = page["next"]
        if after is None:
            break
    assert found == sorted(wanted)
    client = ReadClient(endpoint.url, endpoint.token, device_id=uuid.UUID(DEVICE))
    assert [(each.machine_id, str(each.session)) for each in client.unlisted().sessions] == sorted(wanted)
    client.close()


def test_a_page_ends_after_some_bytes(endpoint: Running, pusher: Pusher) -> None:
    """A session has up to ten thousand streams, whose names have up to 200 characters."""
    with endpoint.store.write() as db:
        for number in range(3):
            session = str(uuid.UUID(int=number))
            for stream in range(PAGE // 500):
                made = db.execute(
                    "INSERT INTO streams (user, machine, session, name) VALUES ('default', 'ada', ?, ?)",
                    (session, f"{stream:0200}"),
                )
                db.execute(
                    "INSERT INTO generations (stream, generation, keep, length) VALUES (?, 0, 0, 0)", (made.lastrowid,)
                )
    page = unlisted(pusher)
    assert len(page["sessions"]) == 1
    assert len(unlisted(pusher, after=page["next"])["sessions"]) == 1


def test_only_the_users_own_sessions_are_listed(endpoint: Running, pusher: Pusher) -> None:
    assert pusher.said(append(0, b"abc")) == ["stored"]
    with Pusher(endpoint.url, tokens.add(endpoint.store, "eve", user="eve")) as eve:
        assert unlisted(eve)["sessions"] == []
        assert eve.get("/v1/unlisted", params={"user": "default"}).status_code == 403
    with Pusher(endpoint.url, tokens.add(endpoint.store, "root", user="root", scopes=["admin"])) as admin:
        assert len(unlisted(admin, user="default")["sessions"]) == 1


def test_an_unknown_position_is_refused(pusher: Pusher) -> None:
    assert pusher.get("/v1/unlisted", params={"after": "x"}).status_code == 400
    assert pusher.get("/v1/unlisted", params={"limit": 0}).status_code == 400
    assert pusher.get("/v1/unlisted", params={"tool": "codex"}).status_code == 400
