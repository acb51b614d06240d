"""The audit log: each change of rights and each read of another user's sessions, and no way to delete an entry."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from endpoint_lines import DEVICE, OTHER_DEVICE, SESSION, Pusher, append, record

from sessiond import clock
from sessiond.cli import main
from sessiond.endpoint import server
from sessiond.endpoint.server import Running, accounts, audit, invites, machines, tokens
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.errors import SessiondError


def test_each_change_of_rights_has_an_entry(endpoint: Running) -> None:
    """It says who did what, and has no secret. A change that fails has none."""
    store = endpoint.store
    secrets = [tokens.add(store, "laptop", user="ada"), invites.add(store, user="ada", uses=3, lifetime=60)]
    with Pusher(endpoint.url, secrets[0]) as ada:
        assert ada.said(record()) == ["stored"]
    asked = {"code": secrets[1], "device_id": OTHER_DEVICE, "machine_id": "desk"}
    with Pusher(endpoint.url, "sd_none") as unknown:
        enrolled = unknown.post("/v1/enrol", json=asked).json()
    machines.adopt(store, "ada", "ada")
    tokens.rebind(store, "laptop")
    tokens.revoke(store, "laptop")
    invites.revoke(store, 1)
    accounts.set_tenant(store, "acme", quota=5)
    accounts.set_user(store, "ada", quota=7, tenant="acme")
    for change in (
        lambda: tokens.revoke(store, "laptop"),
        lambda: accounts.set_user(store, "ada", quota=1, tenant="none of these"),
        lambda: tokens.add(store, enrolled["name"]),
        lambda: machines.adopt(store, "unknown"),
    ):
        with pytest.raises(SessiondError):
            change()
    entries = audit.list_entries(store)
    assert [(each.action, each.subject) for each in entries] == [
        ("token.add", "laptop"),
        ("invite.add", "1"),
        ("enrol", enrolled["name"]),
        ("machine.adopt", "ada"),
        ("token.rebind", "laptop"),
        ("token.revoke", "laptop"),
        ("invite.revoke", "1"),
        ("tenant.set", "acme"),
        ("user.quota", "ada"),
        ("user.tenant", "ada"),
    ]
    assert entries[0].detail == "user ada, scope push,read"
    assert entries[2].actor == "invitation 1"
    assert entries[4].detail == f"released from device {DEVICE}"
    assert all(each.actor.startswith("command line (") for each in entries if each.action != "enrol")
    assert not any(secret in str(entries) for secret in [*secrets, enrolled["token"]])


def test_a_device_that_enrols_again_and_again_fills_no_log(endpoint: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry says that it has another secret; within a minute one is enough."""
    now_ms = clock.now_ms()
    asked = {"code": invites.add(endpoint.store, lifetime=9e6), "device_id": OTHER_DEVICE, "machine_id": "desk"}
    with Pusher(endpoint.url, "sd_none") as unknown:
        for later in (0, 0, 1, 61_000, 61_000):
            monkeypatch.setattr(clock, "now_ms", lambda later=later: now_ms + later)
            assert unknown.post("/v1/enrol", json=asked).status_code == 200
    found = [each.at_ms - now_ms for each in audit.list_entries(endpoint.store) if each.action == "enrol"]
    assert found == [0, 61_000]


def test_an_administrator_reads_nothing_unseen(endpoint: Running) -> None:
    """Each read of another user's sessions has an entry, also one that finds nothing. Other reads have none."""
    with (
        Pusher(endpoint.url, tokens.add(endpoint.store, "ada", user="ada")) as ada,
        Pusher(endpoint.url, tokens.add(endpoint.store, "root", user="root", scopes=["admin"])) as admin,
    ):
        assert ada.said(record(), append(0, b"text")) == ["stored"] * 2
        one = f"/v1/sessions/ada/{SESSION}"
        before = len(audit.list_entries(endpoint.store))
        paths = ["/v1/sessions", "/v1/changes", "/v1/unlisted", one, f"{one}/streams", f"{one}/streams/main"]
        for path in paths:
            assert admin.get(path, params={"user": "ada"}).status_code == 200
        assert admin.get(one, params={"user": "eve"}).status_code == 404
        for path in ("/v1/sessions", "/v1/sessions?user=root", "/v1", "/metrics"):
            assert admin.get(path).status_code == 200
        assert ada.get(one, params={"user": "root"}).status_code == 403
        assert ada.get(one).status_code == 200
        assert admin.delete(one, params={"user": "ada"}).status_code == 200
        found = audit.list_entries(endpoint.store)[before:]
    assert [(each.actor, each.action, each.subject, each.detail) for each in found] == [
        *(("root", "session.read", "ada", path) for path in paths),
        ("root", "session.read", "eve", one),
        ("root", "session.erase", "ada", f"{SESSION} of ada"),
    ]


def test_no_read_without_its_entry(endpoint: Running) -> None:
    """If the entry can't be written, nothing is sent."""
    with (
        Pusher(endpoint.url, endpoint.token) as ada,
        Pusher(endpoint.url, tokens.add(endpoint.store, "root", user="root", scopes=["admin"])) as admin,
    ):
        assert ada.said(append(0, b"text")) == ["stored"]
        with endpoint.store.write() as db:
            db.execute("ALTER TABLE audit RENAME TO lost")
        answer = admin.get(f"/v1/sessions/ada/{SESSION}/streams/main", params={"user": "default"})
        assert (answer.status_code, answer.json()["type"]) == (500, "failed")
        assert ada.bytes_of() == b"text"
        with endpoint.store.write() as db:
            db.execute("ALTER TABLE lost RENAME TO audit")


def test_no_code_changes_or_deletes_an_entry() -> None:
    """The only statements about the table are the one that adds and the one that lists."""
    folder = Path(server.__file__).parent
    statements = re.compile(r"(INSERT INTO|FROM|UPDATE|DELETE FROM|JOIN) audit\b")
    found = [match[1] for path in sorted(folder.glob("*.py")) for match in statements.finditer(path.read_text())]
    assert sorted(found) == ["FROM", "INSERT INTO"]


def test_the_command_lists_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--since 1h` leaves out what is older."""
    data = ["--data", str(tmp_path / "store")]
    assert main(["serve", "audit", *data]) == 0
    assert capsys.readouterr() == ("", "nothing happened yet\n")
    assert main(["serve", "token", "add", "first", *data]) == 0
    with closing(SqliteStore(str(tmp_path / "store"))) as store, store.write() as db:
        db.execute("UPDATE audit SET at_ms = at_ms - 7200000")
    assert main(["serve", "token", "add", "second", *data]) == 0
    capsys.readouterr()
    assert main(["serve", "audit", *data]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["time", "by", "action", "of", "detail"]
    assert [re.split("  +", line)[2:4] for line in rows] == [["token.add", "first"], ["token.add", "second"]]
    assert main(["serve", "audit", "--since", "1h", "--json", *data]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["action"], entry["subject"]) == ("token.add", "second")
