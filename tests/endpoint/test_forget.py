"""An erased session is gone from the store's files and is never stored again; no other user's data changes."""

from __future__ import annotations

import json
import random
from pathlib import Path

from endpoint_lines import DEVICE, OTHER_DEVICE, SESSION, Pusher, append, generation, record

from sessiond.endpoint.server import Running, running, tokens

ADDRESS = f"/v1/sessions/{SESSION}"
HERE = f"/v1/sessions/ada/{SESSION}"
NOISE = random.Random(1).randbytes(300).hex()
"""Text that zstd stores so that parts of it can be found in the file: it has no repeats."""
OTHER = SESSION[:-1] + "2"


def frames(running: Running) -> list[bytes]:
    """Return the stored frames of the session."""
    with running.store.read() as db:
        return [bytes(row[0]) for row in db.execute("SELECT frame FROM chunks")]


def files(running: Running) -> bytes:
    """Return all bytes of the store's files."""
    return b"".join(path.read_bytes() for path in Path(running.store.directory).glob("endpoint.db*"))


def test_its_bytes_are_in_no_file(endpoint: Running, pusher: Pusher) -> None:
    """All generations are removed, with frames that later appends replaced, the record and the write-ahead log."""
    kept: list[bytes] = []
    title = {**record(), "title": "a title to be erased"}
    assert pusher.said(title, append(0, NOISE[:300].encode())) == ["stored", "stored"]
    kept += frames(endpoint)
    assert pusher.said(append(300, NOISE[300:].encode()), generation(1, 0, 100)) == ["stored", "stored"]
    kept += frames(endpoint)
    assert pusher.said(append(100, b"x" * 70_000, generation=1)) == ["stored"]
    kept += frames(endpoint)
    assert all(frame in files(endpoint) for frame in kept[:1])
    receipt = pusher.delete(ADDRESS).json()
    size = len(NOISE) + 70_000
    assert receipt == {"session": SESSION, "machines": ["ada"], "streams": 1, "bytes": size}
    left = files(endpoint)
    assert b"a title to be erased" not in left
    for frame in kept:
        assert not any(frame[at : at + 16] in left for at in range(0, max(len(frame) - 16, 1), 16))
    assert pusher.get(HERE).status_code == pusher.get(f"{HERE}/streams/main").status_code == 404


def test_it_is_never_stored_again(endpoint: Running, pusher: Pusher) -> None:
    """No operation, other machine of the user or restart stores it. Other sessions are stored."""
    pusher.said(record(), append(0, b"hello\n"))
    pusher.delete(ADDRESS)
    lines = [record(2), append(0, b"hello\n"), generation(1, None, 0)]
    assert pusher.said(*lines) == ["forgotten"] * 3
    with Pusher(endpoint.url, endpoint.token, OTHER_DEVICE) as other:
        assert other.said({**append(0, b"hello\n"), "machine_id": "desk"}) == ["forgotten"]
    assert pusher.said({**append(0, b"hello\n"), "session": OTHER}) == ["stored"]
    directory = endpoint.store.directory
    with running(directory + "-2") as fresh, Pusher(fresh.url, fresh.token) as there:
        assert there.said(append(0, b"hello\n")) == ["stored"], "another store knows nothing of it"


def test_erasing_twice_changes_nothing(pusher: Pusher) -> None:
    """A client that lost the answer sends the request again."""
    pusher.said(record(), append(0, b"hello\n"))
    first = pusher.get("/v1/changes").json()
    pusher.delete(ADDRESS)
    assert pusher.delete(ADDRESS).json() == {"session": SESSION, "machines": [], "streams": 0, "bytes": 0}
    page = pusher.get("/v1/changes", params={"since": first["next"]}).json()
    assert page["forgotten"] == [{"machine_id": None, "id": SESSION, "forgotten": True}]
    assert page["sessions"] == []
    again = pusher.get("/v1/changes", params={"since": page["next"]}).json()
    assert (again["forgotten"], again["more"]) == ([], False)


def test_a_page_of_changes_has_a_limit(pusher: Pusher) -> None:
    """Erased sessions are listed a page at a time, each once."""
    wanted = [f"{SESSION[:-2]}{number:02}" for number in range(5)]
    for each in wanted:
        pusher.delete(f"/v1/sessions/{each}")
    found, since, more = [], {}, True
    while more:
        page = pusher.get("/v1/changes", params={"limit": 2, **since}).json()
        assert len(page["forgotten"]) <= 2
        found += [each["id"] for each in page["forgotten"]]
        since, more = {"since": page["next"]}, page["more"]
    assert found == wanted


def test_each_device_learns_what_was_erased(endpoint: Running) -> None:
    """Erased sessions are listed in pages. A push-only token gets those of its own machines, and nothing of others."""
    both = tokens.add(endpoint.store, "laptop", user="ada")
    ci = tokens.add(endpoint.store, "ci", user="ada", scopes=["push"])
    bob = tokens.add(endpoint.store, "bob", user="bob")
    with (
        Pusher(endpoint.url, both) as ada,
        Pusher(endpoint.url, ci, OTHER_DEVICE) as runner,
        Pusher(endpoint.url, bob, "33333333-3333-4333-8333-333333333333") as stranger,
    ):
        ada.said(append(0, b"hello\n"))
        runner.said({**append(0, b"ci\n"), "machine_id": "ci", "session": OTHER})
        for session in (SESSION, OTHER):
            ada.delete(f"/v1/sessions/{session}")

        def erased(who: Pusher, **params: object) -> list[tuple[str | None, str]]:
            page = who.get("/v1/forgotten", params=params).json()
            return [(each["machine_id"], each["id"]) for each in page["forgotten"]]

        assert erased(ada) == [(None, SESSION), (None, OTHER)]
        assert erased(ada, limit=1) == [(None, SESSION)]
        page = ada.get("/v1/forgotten", params={"limit": 1}).json()
        assert page["more"]
        assert erased(ada, since=page["next"]) == [(None, OTHER)]
        assert erased(runner) == [("ci", OTHER)]
        assert erased(stranger) == []
        assert stranger.get("/v1/forgotten", params={"since": page["next"] + "x"}).status_code == 410


def test_a_token_erases_only_what_it_may(endpoint: Running) -> None:
    """A push-only token erases what its device pushed, a full one the user's sessions, none those of other users."""
    add = tokens.add
    both = add(endpoint.store, "laptop", user="ada")
    ci = add(endpoint.store, "ci", user="ada", scopes=["push"])
    reader = add(endpoint.store, "reader", user="ada", scopes=["read"])
    bob = add(endpoint.store, "bob", user="bob")
    with (
        Pusher(endpoint.url, both) as ada,
        Pusher(endpoint.url, ci, OTHER_DEVICE) as runner,
        Pusher(endpoint.url, reader) as phone,
        Pusher(endpoint.url, bob, "33333333-3333-4333-8333-333333333333") as stranger,
    ):
        ada.said(record(), append(0, b"hello\n"))
        runner.said({**append(0, b"ci\n"), "machine_id": "ci"})
        assert phone.delete(ADDRESS).status_code == 403
        assert runner.delete(HERE).status_code == runner.delete(HERE.replace("ada", "nowhere")).status_code == 403
        assert ada.delete(ADDRESS, params={"user": "bob"}).status_code == 403
        empty = {"session": SESSION, "machines": [], "streams": 0, "bytes": 0}
        assert stranger.delete(ADDRESS).json() == empty, "as for a session that does not exist"
        assert runner.delete(ADDRESS).json()["machines"] == ["ci"]
        assert ada.bytes_of() == b"hello\n"
        assert ada.said(append(6, b"more\n")) == ["stored"], "what one device erased of its own stops no other"
        assert ada.delete(ADDRESS).json()["machines"] == ["ada"]


def test_an_admin_erases_for_any_user(endpoint: Running) -> None:
    """An administrator erases without a device, and only sessions of the named user."""
    admin = tokens.add(endpoint.store, "root", user="root", scopes=["admin"])
    ada = tokens.add(endpoint.store, "laptop", user="ada")
    with Pusher(endpoint.url, ada) as owner, Pusher(endpoint.url, admin) as root:
        del root.headers["Sessiond-Device"]
        owner.said(record(), append(0, b"hello\n"))
        assert root.delete(ADDRESS).json()["machines"] == []
        assert root.delete(ADDRESS, params={"user": "ada"}).json()["machines"] == ["ada"]
        assert owner.said(append(0, b"hello\n")) == ["forgotten"]


def test_no_other_stream_gets_its_number(endpoint: Running, pusher: Pusher) -> None:
    """A download that is under way must not continue with the bytes of another stream."""
    pusher.said(append(0, b"hello\n"))
    with endpoint.store.read() as db:
        (before,) = db.execute("SELECT max(stream) FROM streams").fetchone()
    pusher.delete(ADDRESS)
    pusher.said({**append(0, b"other\n"), "session": OTHER})
    with endpoint.store.read() as db:
        (after,) = db.execute("SELECT max(stream) FROM streams").fetchone()
    assert after > before


def test_an_erasure_that_was_interrupted_is_completed_at_the_next_start(tmp_path: Path) -> None:
    """The process was killed between the commit and the clearing of the write-ahead log."""
    with running(str(tmp_path)) as it, Pusher(it.url, it.token) as pusher:
        pusher.said(append(0, NOISE.encode()))
        with it.store.write() as db:
            it.store.expect_scrub(db)
    with running(str(tmp_path)) as it, it.store.read() as db:
        assert db.execute("SELECT 1 FROM facts WHERE name = 'scrub'").fetchone() is None


def test_a_push_needs_its_device(endpoint: Running) -> None:
    """A push and an erasure from another device than the token's are refused."""
    secret = tokens.add(endpoint.store, "laptop")
    with Pusher(endpoint.url, secret) as mine, Pusher(endpoint.url, secret, OTHER_DEVICE) as other:
        mine.said(append(0, b"hello\n"))
        assert other.delete(ADDRESS).status_code == 403
        del other.headers["Sessiond-Device"]
        answer = other.delete(ADDRESS)
        assert (answer.status_code, json.loads(answer.content)["type"]) == (400, "invalid")
        assert mine.headers["Sessiond-Device"] == DEVICE
        assert mine.bytes_of() == b"hello\n"
