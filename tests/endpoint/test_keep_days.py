"""Sessions older than `keep_days` are let go: they are no erased ones, and are stored again once they are resumed."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from endpoint_lines import DEVICE, OTHER_DEVICE, SESSION, Line, Pusher, append, generation, record

from sessiond.cli import main
from sessiond.clock import now_ms
from sessiond.endpoint.server import Running, accounts, audit, keeping, objects, tokens, usage
from sessiond.endpoint.server.sweeper import sweep

ADDRESS = f"/v1/sessions/ada/{SESSION}"
OTHER = SESSION[:-1] + "2"
DAY_MS = 86_400_000
OLD = {"started_at": "2020-01-01T10:00:00Z", "ended_at": "2020-01-02T10:00:00Z"}
NEW = {"started_at": "2020-01-01T10:00:00Z", "ended_at": "2999-01-01T10:00:00Z"}


def old(revision: int = 1, **fields: Any) -> Line:
    """Return a record that was last active years ago."""
    return record(revision, **(OLD | fields))


def resumed(revision: int = 2, **fields: Any) -> Line:
    """Return the record of the same session after it went on."""
    return record(revision, **(NEW | fields))


def keep(endpoint: Running, days: int | None, user: str = "default") -> None:
    if user not in {each.user for each in accounts.list_users(endpoint.store)}:
        tokens.add(endpoint.store, user, user=user)
    accounts.set_user(endpoint.store, user, keep_days=days)


def let_go(endpoint: Running) -> int:
    """Expire old sessions as the upkeep does."""
    count = keeping.expire(endpoint.store, now_ms())
    if endpoint.store.blobs is not None:
        sweep(endpoint.store, now_ms())
    endpoint.store.scrub()
    return count


def held(endpoint: Running, user: str = "default") -> int:
    """Return the running sum of a user, after comparing it with a count of all rows."""
    with endpoint.store.read() as db:
        counted = usage.recount(db, user)
    (found,) = [each.held for each in accounts.list_users(endpoint.store) if each.user == user]
    assert found == counted
    return found


def test_without_a_rule_everything_is_kept(endpoint: Running, pusher: Pusher) -> None:
    """That is the default, and again so once the rule is removed."""
    pusher.said(old(), append(0, b"hello\n"))
    assert let_go(endpoint) == 0
    keep(endpoint, 3650)
    keep(endpoint, None)
    assert let_go(endpoint) == 0
    assert pusher.bytes_of() == b"hello\n"
    assert "keep_days" in pusher.get("/v1").json()


def test_an_old_session_is_let_go_and_a_recent_one_is_not(endpoint: Running, pusher: Pusher) -> None:
    """Its record, bytes and objects are gone; the lists and each request say why."""
    pusher.said(old(), append(0, b"hello\n"), generation(1, 0, 3), append(3, b"!\n", generation=1))
    pusher.said(resumed(id=OTHER), append(0, b"recent\n", session=OTHER))
    before = held(endpoint)
    first = pusher.get("/v1/changes").json()
    keep(endpoint, 30)
    assert pusher.get("/v1").json()["keep_days"] == 30
    assert let_go(endpoint) == 1
    assert before - held(endpoint) > 500
    assert let_go(endpoint) == 0, "once"
    for path in (ADDRESS, f"{ADDRESS}/streams", f"{ADDRESS}/streams/main"):
        answer = pusher.get(path)
        assert (answer.status_code, answer.json()["type"]) == (404, "expired")
    assert [each["record"]["id"] for each in pusher.get("/v1/sessions").json()["sessions"]] == [OTHER]
    page = pusher.get("/v1/changes", params={"since": first["next"]}).json()
    (gone,) = page["expired"]
    assert (gone["machine_id"], gone["id"], gone["revision"]) == ("ada", SESSION, 1)
    assert abs(gone["expired_at"] - now_ms()) < 60_000
    assert (page["sessions"], page["forgotten"], page["more"]) == ([], [], False)
    assert pusher.get("/v1/forgotten").json()["expired"] == [gone]
    with endpoint.store.read() as db:
        assert not objects.dead(db, 10)
        count = "SELECT count(*) FROM objects WHERE session = ?"
        assert db.execute(count, (SESSION,)).fetchone()[0] == 0
        (chunks,) = db.execute("SELECT count(*) FROM chunks JOIN streams USING (stream)").fetchone()
        assert db.execute("SELECT count(*) FROM chunks").fetchone()[0] == chunks == 1


def test_old_lines_are_answered_expired_each_time(endpoint: Running, pusher: Pusher) -> None:
    """Whatever is sent again of it, the answer is the same and nothing is stored."""
    pusher.said(old(), append(0, b"hello\n"))
    keep(endpoint, 30)
    let_go(endpoint)
    before = held(endpoint)
    lines = [append(0, b"hello\n"), old(), old(2), generation(1, None, 0), append(6, b"more\n")]
    for _ in range(2):
        assert pusher.said(*lines) == ["expired"] * 5
    assert held(endpoint) == before
    position = pusher.post(
        "/v1/offsets", json={"machine_id": "ada", "streams": [{"session": SESSION, "stream": "main"}]}
    ).json()["streams"][0]
    assert (position["generation"], position["length"]) == (None, 0)


def test_a_session_that_is_resumed_is_stored_as_a_whole(endpoint: Running, pusher: Pusher) -> None:
    """Its record ends the refusal. The endpoint has no bytes of it, and says so."""
    pusher.said(old(), append(0, b"hello\n"))
    keep(endpoint, 30)
    let_go(endpoint)
    assert pusher.said(resumed(), append(6, b"more\n")) == ["stored", "offset-mismatch"]
    assert pusher.said(append(0, b"hello\nmore\n")) == ["stored"]
    assert pusher.bytes_of() == b"hello\nmore\n"
    assert pusher.get(ADDRESS).json()["revision"] == 2
    page = pusher.get("/v1/changes").json()
    assert (len(page["sessions"]), page["expired"]) == (1, [])
    assert let_go(endpoint) == 0
    held(endpoint)
    assert pusher.said(old(3)) == ["stored"], "the rule decides about what is here, and not a push"
    assert let_go(endpoint) == 1
    assert pusher.said(append(11, b"again\n")) == ["expired"]
    held(endpoint)


def test_a_lower_rule_lets_more_go_and_a_higher_one_takes_it_back(endpoint: Running, pusher: Pusher) -> None:
    """The rule that is set now decides. What was let go is stored again if it is pushed and within the rule."""
    pusher.said(old(), append(0, b"hello\n"))
    days = (now_ms() - 1_577_959_200_000) // DAY_MS
    keep(endpoint, days + 2)
    assert let_go(endpoint) == 0
    keep(endpoint, days - 2)
    assert let_go(endpoint) == 1
    keep(endpoint, days + 2)
    assert pusher.said(append(0, b"hello\n"), old(), append(0, b"hello\n")) == ["expired", "stored", "stored"]
    assert pusher.bytes_of() == b"hello\n"


def test_what_was_always_too_old_is_not_stored_first(endpoint: Running, pusher: Pusher) -> None:
    """A new device need not push years that would be let go at once. Bytes that came before their record are kept."""
    keep(endpoint, 30)
    assert pusher.said(old(), append(0, b"hello\n")) == ["expired", "expired"]
    held(endpoint)
    (gone,) = pusher.get("/v1/changes").json()["expired"]
    assert gone["id"] == SESSION
    assert pusher.said(append(0, b"bytes\n", session=OTHER), old(id=OTHER)) == ["stored", "stored"]
    assert let_go(endpoint) == 1, "it is an old session like any other"
    held(endpoint)


def test_a_full_quota_has_no_space_for_the_row_of_an_unknown_session(endpoint: Running, pusher: Pusher) -> None:
    """Records of invented old sessions could fill the disk otherwise."""
    keep(endpoint, 30)
    pusher.said(append(0, b"x"))
    accounts.set_user(endpoint.store, "default", quota=10)
    assert pusher.said(old(id=OTHER)) == ["quota"]
    held(endpoint)


def test_an_erased_session_stays_erased(endpoint: Running, pusher: Pusher) -> None:
    """A tombstone outlasts the rule, in either order."""
    pusher.said(old(), append(0, b"hello\n"))
    keep(endpoint, 30)
    let_go(endpoint)
    assert pusher.delete(ADDRESS).json()["streams"] == 0
    assert pusher.said(old(), resumed()) == ["forgotten", "forgotten"]
    page = pusher.get("/v1/changes").json()
    assert ([each["id"] for each in page["forgotten"]], page["expired"]) == ([SESSION], [])
    held(endpoint)


def test_the_rule_of_the_user_counts_before_that_of_the_tenant(endpoint: Running) -> None:
    """Other users and tenants are not affected; one user learns nothing of another."""
    accounts.set_tenant(endpoint.store, "acme", keep_days=30)
    devices = [DEVICE, OTHER_DEVICE, str(uuid.UUID(int=3))]
    secrets = [tokens.add(endpoint.store, name, user=name) for name in ("ada", "bob", "eve")]
    for name in ("ada", "bob"):
        accounts.set_user(endpoint.store, name, tenant="acme")
    accounts.set_user(endpoint.store, "bob", keep_days=36_500)
    clients = [Pusher(endpoint.url, secret, device) for secret, device in zip(secrets, devices, strict=True)]
    for each, device in zip(clients, devices, strict=True):
        assert each.said(append(0, b"hello\n"), old(device=device)) == ["stored", "stored"]
    assert [each.get("/v1").json()["keep_days"] for each in clients] == [30, 36_500, None]
    assert let_go(endpoint) == 1
    assert [each.get(ADDRESS).status_code for each in clients] == [404, 200, 200]
    assert [len(each.get("/v1/changes").json()["expired"]) for each in clients] == [1, 0, 0]
    for each in clients:
        each.close()


def test_a_device_that_only_pushes_learns_of_its_own_sessions(endpoint: Running) -> None:
    """Those of other devices of the user are not listed for it."""
    both = tokens.add(endpoint.store, "laptop", user="ada")
    ci = tokens.add(endpoint.store, "ci", user="ada", scopes=["push"])
    with Pusher(endpoint.url, both) as ada, Pusher(endpoint.url, ci, OTHER_DEVICE) as runner:
        ada.said(old())
        runner.said(old(id=OTHER, machine_id="ci", device=OTHER_DEVICE))
        keep(endpoint, 30, "ada")
        assert let_go(endpoint) == 2

        def expired(who: Pusher, **params: object) -> list[str]:
            return [each["id"] for each in who.get("/v1/forgotten", params=params).json()["expired"]]

        assert set(expired(ada)) == {SESSION, OTHER}
        assert expired(runner) == [OTHER]
        page = ada.get("/v1/forgotten", params={"limit": 1}).json()
        assert (len(page["expired"]), page["more"]) == (1, True)
        assert len(expired(ada, since=page["next"])) == 1


def test_pages_of_changes_have_every_expiry_once(endpoint: Running, pusher: Pusher) -> None:
    """Between erased sessions, in any page size."""
    ids = [f"{SESSION[:-2]}{number:02}" for number in range(7)]
    pusher.said(*(old(id=each) for each in ids))
    for each in ids[::3]:
        pusher.delete(f"/v1/sessions/{each}")
    keep(endpoint, 30)
    assert let_go(endpoint) == 4
    found: list[str] = []
    since, more = {}, True
    while more:
        page = pusher.get("/v1/changes", params={"limit": 2, **since}).json()
        part = [each["id"] for each in [*page["forgotten"], *page["expired"]]]
        assert len(part) <= 2
        found += part
        since, more = {"since": page["next"]}, page["more"]
    assert sorted(found) == ids


def test_many_sessions_go_in_small_transactions(
    endpoint: Running, pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push never waits for all of them. Each transaction has an entry in the audit log."""
    monkeypatch.setattr(keeping, "AT_ONCE", 2)
    pusher.said(*(old(id=f"{SESSION[:-2]}{number:02}") for number in range(5)))
    keep(endpoint, 30)
    assert let_go(endpoint) == 5
    entries = [each for each in audit.list_entries(endpoint.store) if each.action == "session.expire"]
    assert [each.detail.split(" ")[0] for each in entries] == ["2", "2", "1"]
    assert {(each.actor, each.subject) for each in entries} == {("keep rule", "default")}
    held(endpoint)


def test_the_bytes_of_one_transaction_are_limited(
    endpoint: Running, pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One session at least is let go, however large it is."""
    monkeypatch.setattr(keeping, "AT_ONCE_BYTES", 1)
    for each in (SESSION, OTHER):
        pusher.said(old(id=each), append(0, b"x" * 5000, session=each))
    keep(endpoint, 30)
    assert let_go(endpoint) == 2
    entries = [each for each in audit.list_entries(endpoint.store) if each.action == "session.expire"]
    assert [each.detail.split(" ")[0] for each in entries] == ["1", "1"]


def test_its_bytes_are_in_no_file(endpoint: Running, pusher: Pusher) -> None:
    """As of an erased session, nothing is left in the database or its write-ahead log."""
    pusher.said({**old(), "title": "a title to be let go"})
    keep(endpoint, 30)
    let_go(endpoint)
    found = b"".join(path.read_bytes() for path in Path(endpoint.store.directory).glob("endpoint.db*"))
    assert b"a title to be let go" not in found


def test_the_commands_set_and_show_the_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`serve user set` and `serve tenant set`; both leave an entry in the audit log."""
    data = ["--data", str(tmp_path)]

    def run(*args: str) -> str:
        assert main(["serve", *args, *data]) == 0
        return capsys.readouterr().out

    run("token", "add", "laptop", "--user", "ada")
    run("tenant", "set", "acme", "--keep-days", "365")
    run("user", "set", "ada", "--keep-days", "1")
    assert run("user", "list").splitlines()[1].split() == ["ada", "none", "0", "B", "none", "1", "day"]
    assert run("tenant", "list").splitlines()[1].split()[-2:] == ["365", "days"]
    run("user", "set", "ada", "--keep-days", "none")
    assert run("user", "list").splitlines()[1].split()[-1] == "-"
    actions = [line.split() for line in run("audit").splitlines()]
    assert any("user.keep_days" in each and "none" in each for each in actions)
    assert any("tenant.keep_days" in each and "365" in each for each in actions)
    for wrong in ("0", "-1", "x", "36501"):
        assert main(["serve", "user", "set", "ada", "--keep-days", wrong, *data]) == 2
        assert "--keep-days" in capsys.readouterr().err
