"""Quotas of users and tenants, and the running sums that they are compared with."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from endpoint_lines import DEVICE, OTHER_DEVICE, SESSION, Line, Pusher, append, generation, record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.cli import main
from sessiond.clock import now_ms
from sessiond.endpoint.server import Running, accounts, erase, invites, keeping, tokens, usage
from sessiond.endpoint.server.decision import Sender
from sessiond.endpoint.server.limits import check_quota
from sessiond.endpoint.server.push import PushRequest, apply
from sessiond.endpoint.server.results import ItemError
from sessiond.endpoint.server.state import Quota
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.tokens import ADMIN, Access
from sessiond.endpoint.wire import Limits
from sessiond.errors import NotFound, SessiondError

SESSIONS = [str(uuid.UUID(int=number)) for number in (1, 2)]
MACHINES = ["laptop", "desk"]
NUMBERS = itertools.count()


def member(endpoint: Running, user: str, device: str = DEVICE) -> Pusher:
    """Add a token for a user, and return a client that has it."""
    return Pusher(endpoint.url, tokens.add(endpoint.store, f"{user}-{uuid.uuid4().hex}", user=user), device)


def held(store: Store, user: str) -> int:
    """Return the running sum of a user, after comparing it with a count of all rows."""
    with store.read() as db:
        counted = usage.recount(db, user)
    (found,) = [each.held for each in accounts.list_users(store) if each.user == user] or [0]
    assert found == counted
    return found


def lines_of(draw: Callable[[Any], Any]) -> Line:
    """Draw a line that may be stored, be a duplicate, or fail."""
    where = {"machine_id": draw(st.sampled_from(MACHINES)), "session": draw(st.sampled_from(SESSIONS))}
    stream = draw(st.sampled_from(["main", "agents/a1"]))
    kind = draw(st.integers(0, 3))
    if kind == 0:
        text = "x" * draw(st.integers(0, 400))
        device = draw(st.sampled_from([DEVICE, DEVICE, OTHER_DEVICE]))
        fields = {"machine_id": where["machine_id"], "id": where["session"], "working_directory": f"/{text}"}
        fields |= draw(st.sampled_from([{}, {"ended_at": "2020-01-02T10:00:00Z"}]))
        return record(draw(st.integers(1, 9)), device=device, **fields)
    if kind == 1:
        number = draw(st.integers(0, 3))
        return generation(number, number - 1, draw(st.sampled_from([0, 3, 5, 10])), stream=stream, **where)
    text = draw(st.sampled_from(["a" * 5, "b" * 5, "c" * 70]))
    number = draw(st.sampled_from([0, 0, 1, 2]))
    return append(draw(st.sampled_from([0, 5, 10])), text.encode(), generation=number, stream=stream, **where)


@given(st.data())
@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_the_sum_equals_a_recount(endpoint: Running, data: st.DataObject) -> None:
    """After pushes, rewrites, replaced records, erasures, moves and expiries; also of the tenant, in a full quota."""
    store, user = endpoint.store, f"user-{next(NUMBERS)}"
    admin = Access(user="root", scopes=frozenset({ADMIN}))
    tokens.add(store, user, user=user)
    names = [f"{user}-a", f"{user}-b"]
    for tenant in names:
        accounts.set_tenant(store, tenant, quota=data.draw(st.sampled_from([None, 9000])))
    for _ in range(data.draw(st.integers(1, 8))):
        step = data.draw(st.integers(0, 7))
        if step == 0:
            machine = data.draw(st.sampled_from([None, *MACHINES]))
            session = data.draw(st.sampled_from(SESSIONS))
            erase.erase(store, erase.Order(access=admin, device=None, session=session, machine=machine, user=user))
        elif step == 1:
            tenant = data.draw(st.sampled_from([*names, None]))
            accounts.set_user(store, user, quota=data.draw(st.sampled_from([None, 7000, 9000])), tenant=tenant)
        elif step == 6:
            accounts.set_user(store, user, keep_days=data.draw(st.sampled_from([1, None])))
        elif step == 7:
            keeping.expire(store, now_ms())
        else:
            device = uuid.UUID(data.draw(st.sampled_from([DEVICE, DEVICE, OTHER_DEVICE])))
            access = Access(user=user, scopes=frozenset({"push"}))
            push = PushRequest(store, Limits(), Sender(access=access, device=device, batch="b"))
            lines = [lines_of(data.draw) for _ in range(data.draw(st.integers(1, 5)))]
            push.prepare([json.dumps(line).encode() for line in lines])
            with store.write() as db:
                apply(store, db, [push])
        total = held(store, user)
        (mine,) = [each for each in accounts.list_users(store) if each.user == user]
        for each in accounts.list_tenants(store):
            if each.tenant in names:
                assert each.held == (total if each.tenant == mine.tenant else 0)


def test_a_user_stores_no_more_than_the_quota(endpoint: Running) -> None:
    """Transcripts end at 15/16 of it, records at all of it. Other users go on. A higher quota is used at once."""
    with member(endpoint, "ada") as ada, member(endpoint, "eve", OTHER_DEVICE) as eve:
        accounts.set_user(endpoint.store, "ada", quota=32_000)
        assert ada.said(append(0, b"x" * 20_000)) == ["stored"]
        (refused,) = ada.lines(append(20_000, b"y" * 9_000))
        assert refused["problem"]["type"] == "quota"
        assert "the quota of user ada is used up" in refused["problem"]["detail"]
        assert ada.said(append(20_000, b"z" * 100), record()) == ["stored", "stored"], "smaller items still fit"
        assert held(endpoint.store, "ada") <= 32_000
        assert eve.said(append(0, b"x" * 40_000)) == ["stored"]
        accounts.set_user(endpoint.store, "ada", quota=64_000)
        assert ada.said(append(20_100, b"y" * 9_000)) == ["stored"]
        accounts.set_user(endpoint.store, "ada", quota=None)
        assert ada.said(append(29_100, b"y" * 90_000)) == ["stored"]


def test_erasing_gives_space_back(endpoint: Running) -> None:
    """What is left of an erased session is its tombstone."""
    with member(endpoint, "ada") as ada:
        assert ada.said(record(), append(0, b"x" * 20_000), generation(1, 0, 10)) == ["stored"] * 3
        accounts.set_user(endpoint.store, "ada", quota=23_000)
        before = held(endpoint.store, "ada")
        assert ada.said(append(10, b"y" * 9_000, generation=1)) == ["quota"]
        assert ada.delete(f"/v1/sessions/ada/{SESSION}").status_code == 200
        assert before - held(endpoint.store, "ada") > 20_000
        other = str(uuid.UUID(int=7))
        assert ada.said(append(0, b"y" * 9_000, session=other)) == ["stored"]


def test_a_record_may_shrink_in_a_full_quota(endpoint: Running) -> None:
    """A quota below what is there stops what is new, and no state of a record that is shorter."""
    with member(endpoint, "ada") as ada:
        assert ada.said(record(working_directory="/" + "x" * 400), append(0, b"x")) == ["stored", "stored"]
        accounts.set_user(endpoint.store, "ada", quota=10)
        assert ada.said(record(2, working_directory="/w")) == ["stored"]
        assert ada.said(record(3, working_directory="/wider")) == ["quota"]
        assert ada.said(append(1, b"x"), generation(1, None, 0), append(0, b"x", machine_id="new")) == ["quota"] * 3
        other = uuid.UUID(int=8)
        refused = ada.delete(f"/v1/sessions/{other}")
        assert (refused.status_code, refused.json()["type"]) == (507, "full")
        assert held(endpoint.store, "ada") > 10


def test_users_of_a_tenant_share_its_quota(endpoint: Running) -> None:
    """What one stores is missing for the other; a user that leaves the tenant takes its bytes with it."""
    accounts.set_tenant(endpoint.store, "acme", quota=50_000)
    with member(endpoint, "ada") as ada, member(endpoint, "bob", OTHER_DEVICE) as bob:
        for user in ("ada", "bob"):
            accounts.set_user(endpoint.store, user, tenant="acme")
        assert ada.said(append(0, b"x" * 40_000)) == ["stored"]
        (refused,) = bob.lines(append(0, b"y" * 9_000, machine_id="desk"))
        assert refused["problem"]["type"] == "quota"
        assert "the quota of the user's tenant is used up" in refused["problem"]["detail"]
        assert "ada" not in json.dumps(refused)
        accounts.set_user(endpoint.store, "ada", tenant=None)
        assert bob.said(append(0, b"y" * 9_000, machine_id="desk")) == ["stored"]
        (acme,) = accounts.list_tenants(endpoint.store)
        assert (acme.users, acme.held) == (1, held(endpoint.store, "bob"))
        with pytest.raises(SessiondError, match="has users"):
            accounts.remove_tenant(endpoint.store, "acme")
        accounts.set_user(endpoint.store, "bob", tenant=None)
        accounts.remove_tenant(endpoint.store, "acme")
        assert accounts.list_tenants(endpoint.store) == []
        with pytest.raises(NotFound, match="acme"):
            accounts.remove_tenant(endpoint.store, "acme")


def test_a_name_that_nothing_has_is_refused(endpoint: Running) -> None:
    """A misspelt user must not get a quota that limits nobody."""
    invites.add(endpoint.store, user="grace", lifetime=60)
    accounts.set_user(endpoint.store, "grace", quota=5)
    for change in ({"quota": 5}, {"tenant": None}):
        with pytest.raises(NotFound, match="user graze"):
            accounts.set_user(endpoint.store, "graze", **change)
    with pytest.raises(NotFound, match="no tenant acme"):
        accounts.set_user(endpoint.store, "grace", tenant="acme")
    with pytest.raises(SessiondError, match="no spaces"):
        accounts.set_tenant(endpoint.store, "a b")


def test_the_commands_change_and_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A quota is shown exactly, in powers of 1000 as what is stored."""
    data = ["--data", str(tmp_path / "store")]
    for command in (
        ["token", "add", "laptop", "--user", "ada"],
        ["tenant", "set", "acme", "--quota", "1T"],
        ["user", "set", "ada", "--quota", "10G", "--tenant", "acme"],
    ):
        assert main(["serve", *command, *data]) == 0
    capsys.readouterr()
    assert main(["serve", "user", "list", *data]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "user      tenant  stored  quota  kept",
        "ada       acme       0 B  10 GB     -",
    ]
    assert main(["serve", "tenant", "list", *data]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tenant    users  stored  quota  kept",
        "acme      1         0 B   1 TB     -",
    ]
    assert main(["serve", "user", "list", "--json", *data]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"user": "ada", "tenant": "acme", "held": 0, "quota": 10_000_000_000, "keep_days": None}
    ]
    for command in (
        ["user", "set", "ada", "--quota", "none", "--tenant", "none"],
        ["tenant", "remove", "acme"],
    ):
        assert main(["serve", *command, *data]) == 0
    capsys.readouterr()
    assert main(["serve", "user", "set", "ada", *data]) == 78
    assert main(["serve", "user", "list", *data]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "ada       none       0 B   none     -"


@pytest.mark.parametrize(
    ("given", "quota", "shown"),
    [
        ("10G", 10**10, "10 GB"),
        ("10 GB", 10**10, "10 GB"),
        ("1.5T", 15 * 10**11, "1500 GB"),
        ("10GiB", 10 << 30, "10 GiB"),
        ("500k", 500_000, "500 kB"),
        ("3Ki", 3072, "3 KiB"),
        ("1001", 1001, "1001 B"),
        ("0", 0, "0 B"),
        ("none", None, "none"),
    ],
)
def test_a_size_is_given_and_shown_by_one_rule(
    tmp_path: Path, given: str, quota: int | None, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the configuration, and as `status` shows what is stored."""
    data = ["--data", str(tmp_path / "store")]
    assert main(["serve", "tenant", "set", "acme", "--quota", given, *data]) == 0
    capsys.readouterr()
    assert main(["serve", "tenant", "list", "--json", *data]) == 0
    assert json.loads(capsys.readouterr().out)[0]["quota"] == quota
    assert main(["serve", "tenant", "list", *data]) == 0
    assert capsys.readouterr().out.rstrip(" -\n").endswith(f"  {shown}")


@pytest.mark.parametrize("wrong", ["10X", "-1G", "", "9999999T", "10 G B"])
def test_what_is_no_size_is_refused(tmp_path: Path, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "tenant", "set", "acme", f"--quota={wrong}", "--data", str(tmp_path / "store")]) == 2
    assert "is not a size such as" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("left", "reserve", "fits"), [(10, False, True), (9, False, False), (13, True, True), (12, True, False)]
)
def test_a_quota_can_be_used_up_to_its_last_byte(left: int, reserve: bool, fits: bool) -> None:
    """What is reserved for records is left to them."""
    with nullcontext() if fits else pytest.raises(ItemError, match="the quota of ada is used up"):
        check_quota(Quota(left=left, reserve=3, name="the quota of ada"), 10, reserve=reserve)
    check_quota(Quota(left=None, reserve=3), 1 << 62, reserve=True)
