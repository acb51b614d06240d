"""Sessions that the endpoint let go by its keep rule are neither safe nor lost, and are pushed again once resumed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from sessiond.cli import main
from sessiond.clock import now_ms
from sessiond.endpoint.server import accounts, keeping, running, tokens
from sessiond.spool import Spool
from sessiond.spool.safety import KEEP_DAYS, Counts, State
from sessiond.upload import bind
from sessiond.upload.verify import apply_comparison, compare
from support.harness import CLAUDE, NOW_MS, SESSION, TOKEN, DaemonHarness, claude, daemon_harness

OTHER = SESSION[:-1] + "2"
OTHER_FILE = CLAUDE.replace(SESSION, OTHER)
SIDE_FILE = CLAUDE.removesuffix(".jsonl") + "/tool-results/toolu_01.txt"
AGENT = CLAUDE.removesuffix(".jsonl") + "/subagents/agent-a1.jsonl"
OLD = "2020-09-01T10:00:00.000Z"
NEW = datetime.fromtimestamp(NOW_MS / 1000 - 60, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
DAYS = (now_ms() - NOW_MS) // 86_400_000 + 100
"""What the endpoint keeps, by its own clock: what was active at the harness's time is recent enough."""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path, configured=True) as made:
        tokens.add(made.endpoint.store, "any")
        yield made


def write_old(harness: DaemonHarness, *, session: str = SESSION) -> str:
    """Write a session that was last active years ago, with a subagent and a side file. It has ended."""
    first, second = (claude(session, number, text=f"old {number}", timestamp=OLD) for number in (1, 2))
    path = harness.write(CLAUDE.replace(SESSION, session), first, second | {"type": "assistant"})
    agent = {**claude(session, 3, timestamp=OLD), "isSidechain": True, "agentId": "a1"}
    harness.write(AGENT.replace(SESSION, session), agent)
    harness.write(SIDE_FILE.replace(SESSION, session), "an output")
    return path


def resume(harness: DaemonHarness) -> None:
    """The user goes on with the session."""
    harness.write(CLAUDE, claude(SESSION, 9, text="resumed", timestamp=NEW))


def keep(harness: DaemonHarness, days: int | None) -> None:
    accounts.set_user(harness.endpoint.store, "default", keep_days=days)


def let_go(harness: DaemonHarness, days: int = DAYS) -> int:
    """Expire old sessions at the endpoint; the daemon hears of it when it identifies the endpoint again."""
    keep(harness, days)
    count = keeping.expire(harness.endpoint.store, now_ms())
    harness.retrying.identify_again()
    return count


def counts(harness: DaemonHarness) -> Counts:
    return harness.spool.safety.total(harness.address)


def pushes(harness: DaemonHarness, since: int = 0) -> int:
    return sum(path == "/v1/push" for path, _ in harness.transport.requests[since:])


def gone_at_endpoint(harness: DaemonHarness) -> bool:
    return harness.get(f"/v1/sessions/testbox/{SESSION}").json().get("type") == "expired"


def whole(path: str) -> bytes:
    return Path(path).read_bytes()


def test_it_is_neither_safe_nor_lost(harness: DaemonHarness) -> None:
    """The daemon learns it without pushing anything; other sessions stay safe."""
    write_old(harness)
    harness.write(OTHER_FILE, claude(OTHER, 1, timestamp=NEW))
    harness.settle()
    assert counts(harness).acknowledged == 2
    assert let_go(harness) == 1
    before = len(harness.transport.requests)
    harness.settle()
    assert pushes(harness, before) == 0
    found = counts(harness)
    assert (found.captured, found.acknowledged, found.expired, found.expired_gone) == (2, 1, 1, 0)
    assert (found.lost, found.waiting, found.parked) == (0, 0, 0)
    assert found.settled
    session = harness.spool.catalog.session(UUID(SESSION))
    assert session is not None
    assert harness.spool.safety.session(session.id) is State.EXPIRED
    assert {(each.state, each.safe, each.lost) for each in harness.spool.safety.streams(session.id)} == {
        (State.EXPIRED, 0, 0)
    }
    assert harness.spool.meta(KEEP_DAYS) == str(DAYS)


def test_it_stays_so_when_the_tool_deletes_its_file(harness: DaemonHarness) -> None:
    """The record has a new revision then, which the endpoint does not keep either. No byte is pushed or lost."""
    path = write_old(harness)
    harness.settle()
    let_go(harness)
    harness.settle()
    for each in (path, os.path.join(harness.home, AGENT), os.path.join(harness.home, SIDE_FILE)):
        os.unlink(each)
    harness.now_ms += 1000
    harness.settle()
    found = counts(harness)
    assert (found.expired, found.expired_gone, found.only_here, found.lost, found.waiting) == (1, 1, 0, 0, 0)
    assert gone_at_endpoint(harness)


def test_a_resumed_session_is_pushed_as_a_whole(harness: DaemonHarness) -> None:
    """All its streams are, since all their files are here; then it is safe as any other."""
    path = write_old(harness)
    harness.settle()
    let_go(harness)
    harness.settle()
    resume(harness)
    harness.settle()
    assert harness.held(SESSION) == whole(path)
    assert harness.held(SESSION, "tool-results/toolu_01.txt") == b"an output\n"
    assert counts(harness).acknowledged == counts(harness).captured == 1
    assert len(harness.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]) == 3
    query = "SELECT count(*) FROM stream WHERE let_go > 0"
    assert harness.spool.connection.execute(query).fetchone()[0] == 0
    before = len(harness.transport.requests)
    harness.settle()
    assert pushes(harness, before) == 0


def test_of_a_resumed_session_what_is_gone_is_not_lost(harness: DaemonHarness) -> None:
    """The file of its subagent was deleted. The endpoint keeps all that can be reached, and nothing loops."""
    path = write_old(harness)
    harness.settle()
    let_go(harness)
    harness.settle()
    os.unlink(os.path.join(harness.home, AGENT))
    resume(harness)
    harness.settle()
    assert harness.held(SESSION) == whole(path)
    found = counts(harness)
    assert (found.expired, found.lost, found.acknowledged, found.waiting) == (1, 0, 0, 0)
    before = len(harness.transport.requests)
    harness.settle()
    assert pushes(harness, before) == 0


def test_a_rewritten_file_is_pushed_as_a_new_generation(harness: DaemonHarness) -> None:
    """The endpoint has no generation of it any more."""
    path = write_old(harness)
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 1, text="other", timestamp=OLD), claude(SESSION, 4, timestamp=OLD), mode="wb")
    harness.settle()
    let_go(harness)
    harness.settle()
    resume(harness)
    harness.settle()
    assert harness.held(SESSION) == whole(path)
    assert counts(harness).acknowledged == 1


def test_a_lost_spool_does_not_push_it_again(harness: DaemonHarness) -> None:
    """Its file is read again, the endpoint refuses the record once, and the bytes leave the outbox."""
    write_old(harness)
    harness.settle()
    let_go(harness)
    harness.settle()
    harness.close()
    for name in os.listdir(harness.state):
        if name.startswith("spool.db"):
            os.unlink(os.path.join(harness.state, name))
    harness.open()
    harness.settle()
    found = counts(harness)
    assert (found.expired, found.lost, found.waiting, found.parked) == (1, 0, 0, 0)
    assert gone_at_endpoint(harness)
    before = len(harness.transport.requests)
    harness.settle()
    assert pushes(harness, before) == 0
    resume(harness)
    harness.settle()
    assert harness.held(SESSION) == whole(os.path.join(harness.home, CLAUDE))


def test_a_restored_spool_learns_it(harness: DaemonHarness, tmp_path: Path) -> None:
    """The backup calls it safe. Its file is deleted, so nothing would be pushed of it."""
    path = write_old(harness)
    harness.settle()
    harness.close()
    shutil.copytree(harness.state, tmp_path / "old")
    harness.open()
    let_go(harness)
    harness.settle()
    harness.close()
    shutil.rmtree(harness.state)
    shutil.copytree(tmp_path / "old", harness.state)
    for each in (path, os.path.join(harness.home, AGENT), os.path.join(harness.home, SIDE_FILE)):
        os.unlink(each)
    harness.open()
    harness.settle()
    found = counts(harness)
    assert (found.expired, found.lost, found.acknowledged, found.waiting) == (1, 0, 0, 0)


def test_a_session_that_is_too_old_at_first_is_refused_once(harness: DaemonHarness) -> None:
    """A new device does not push years that the endpoint would let go at once."""
    keep(harness, DAYS)
    write_old(harness)
    harness.write(OTHER_FILE, claude(OTHER, 1, timestamp=NEW))
    harness.settle()
    found = counts(harness)
    assert (found.captured, found.acknowledged, found.expired) == (2, 1, 1)
    assert harness.spool.stats.waiting().segments == 0
    assert set(harness.held_sessions()) == {OTHER}


def test_bytes_that_only_this_machine_has_are_parked(harness: DaemonHarness) -> None:
    """The tool deleted the file while the device was offline. The user decides; the endpoint's word removes nothing."""
    path = write_old(harness)
    harness.scan()
    for each in (path, os.path.join(harness.home, AGENT), os.path.join(harness.home, SIDE_FILE)):
        os.unlink(each)
    keep(harness, DAYS)
    harness.settle()
    assert harness.spool.stats.waiting().parked == 3
    assert counts(harness).parked == 1
    with harness.spool.transaction():
        harness.spool.outbox.retry()
    harness.settle()
    assert counts(harness).parked == 1
    harness.ingest(harness.write(OTHER_FILE, claude(OTHER, 1, timestamp=NEW)))
    with harness.spool.transaction():
        harness.spool.outbox.park_all(OTHER, "refused")
        assert harness.spool.outbox.drop(UUID(SESSION), harness.now_ms) == 3
        assert harness.spool.outbox.retry(UUID(OTHER)) == 2, "what is parked of another session stays"
    harness.settle()
    found = counts(harness)
    assert (found.expired, found.parked, found.lost, found.waiting) == (1, 0, 0, 0)
    assert found.acknowledged == 1


def test_the_bytes_of_an_earlier_generation_are_parked(harness: DaemonHarness) -> None:
    """The tool rewrote the file before they were pushed, so that only the outbox has them."""
    write_old(harness)
    harness.settle()
    let_go(harness)
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 5, text="more", timestamp=OLD))
    harness.scan()
    harness.write(CLAUDE, claude(SESSION, 6, text="rewritten", timestamp=OLD), mode="wb")
    harness.settle()
    kept = harness.spool.outbox.parked()[1]
    assert [each.generation for each in kept if each.length] == [0]
    assert counts(harness).parked == 1


def test_a_session_that_another_process_found_to_be_let_go_is_pushed_whole(harness: DaemonHarness) -> None:
    """`sessiond verify --repair` learns of it beside a daemon that has met no such session. Then the user goes on."""
    path = write_old(harness)
    harness.settle()
    keep(harness, DAYS)
    keeping.expire(harness.endpoint.store, now_ms())
    verify = Spool(harness.state)
    with verify.transaction():
        verify.outbox.expire(SESSION, harness.now_ms)
    verify.close()
    resume(harness)
    harness.settle()
    assert harness.held(SESSION) == whole(path)
    found = counts(harness)
    assert (found.acknowledged, found.expired, found.lost) == (1, 0, 0)


def test_a_longer_rule_takes_back_what_is_still_here(harness: DaemonHarness) -> None:
    """The daemon offers it once when the rule changes."""
    path = write_old(harness)
    harness.settle()
    let_go(harness)
    harness.settle()
    for days in (DAYS + 1, None):
        keep(harness, days)
        harness.retrying.identify_again()
        before = len(harness.transport.requests)
        harness.settle()
        assert pushes(harness, before) > 0
        assert gone_at_endpoint(harness) == (days is not None)
    assert harness.held(SESSION) == whole(path)
    assert counts(harness).acknowledged == 1


def test_another_endpoint_gets_all_that_is_here(harness: DaemonHarness, tmp_path: Path) -> None:
    """It has no such rule. What no file has any more is not lost by its doing either."""
    path = write_old(harness)
    write_old(harness, session=OTHER)
    harness.settle()
    let_go(harness)
    harness.settle()
    for name in (OTHER_FILE, AGENT.replace(SESSION, OTHER), SIDE_FILE.replace(SESSION, OTHER)):
        os.unlink(os.path.join(harness.home, name))
    harness.settle()
    with running(str(tmp_path / "second"), token=TOKEN) as second:
        harness.client.close()
        harness.close()
        harness.endpoint, harness.address = second, second.url
        harness.open()
        harness.settle()
        assert harness.held(SESSION) == whole(path)
        found = counts(harness)
        assert (found.acknowledged, found.expired, found.lost, found.waiting) == (1, 1, 0, 0)


def test_the_daily_comparison_learns_it(harness: DaemonHarness) -> None:
    """Between two identifications, the list of changes says that it was let go: it is not pushed again."""
    write_old(harness)
    harness.settle()
    let_go(harness)
    for each in compare(harness.spool, harness.client, harness.machine_id):
        result = each
    assert (result.wrong, result.expired) == ([], {SESSION})
    apply_comparison(harness.spool, result, harness.address, harness.now_ms)
    found = counts(harness)
    assert (found.expired, found.waiting) == (1, 0)


def test_the_daily_comparison_finds_one_that_is_back(harness: DaemonHarness) -> None:
    """The endpoint was restored from a backup that has it, or the copy of an archive stored it."""
    write_old(harness)
    harness.settle()
    with harness.spool.transaction():
        harness.spool.outbox.expire(SESSION, harness.now_ms)
    assert counts(harness).expired == 1
    for each in compare(harness.spool, harness.client, harness.machine_id):
        result = each
    apply_comparison(harness.spool, result, harness.address, harness.now_ms)
    harness.settle()
    assert counts(harness).acknowledged == 1


def test_the_commands_name_it(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """No command calls it safe or lost. Without anything else to do, none of them reports a problem."""
    path = write_old(harness)
    harness.write(OTHER_FILE, claude(OTHER, 1, timestamp=NEW))
    harness.settle()
    let_go(harness)
    harness.settle()
    environ = {
        "HOME": harness.home,
        "SESSIOND_STATE_DIR": harness.state,
        "SESSIOND_CONFIG": os.devnull,
        "SESSIOND_MACHINE_ID": "testbox",
        "SESSIOND_TOKEN": TOKEN,
        "SESSIOND_ENDPOINT__URL": harness.address,
    }

    def run(*args: str) -> str:
        harness.spool.close()  # the command is another process
        code = main(list(args), environ)
        harness.open()
        shown = capsys.readouterr()
        assert code == (3 if args[0] == "status" else 0), shown  # 3: no daemon runs
        return shown.out + shown.err

    status = run("status")
    assert "1 of them; 1 not kept" in " ".join(status.split())
    assert f"1 session: the endpoint lets sessions after {DAYS} days go; 1 in the tools' files" in " ".join(
        status.split()
    )
    assert "2 sessions, 1 acknowledged; 1 not kept by the endpoint" in run("sync")
    assert run("queue") == "the queue is empty\n"
    listed = [json.loads(line) for line in run("ls", "--json", "--long").splitlines()]
    assert {each["record"]["id"]: each["state"] for each in listed} == {SESSION: "expired", OTHER: "safe"}
    verified = " ".join(run("verify").split())
    assert "not kept: 1 session" in verified
    assert "everything else is safe: 1 session" in verified
    assert json.loads(run("status", "--json"))["totals"]["expired"] == 1
    assert whole(path) in run("show", SESSION, "--raw").encode()


def test_a_session_of_another_machine_is_not_confused_with_it(harness: DaemonHarness) -> None:
    """The list has the sessions of all machines of the user, and two may have one of the same id."""
    path = write_old(harness)
    harness.settle()
    let_go(harness)
    with harness.endpoint.store.write() as db:
        db.execute("UPDATE expired SET machine = 'another'")
    harness.push()
    bind(harness.uploading)
    assert counts(harness).expired == 0
    assert whole(path)
