"""`sessiond verify`: what it compares, finds and repairs."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from sessiond import exit_codes, state, zstd
from sessiond.cli import main
from sessiond.daemon.periodic_check import PeriodicCheck
from sessiond.endpoint.server import tokens
from sessiond.spool.archive_counts import ARCHIVE_LISTED
from sessiond.spool.archived import ArchivedSession
from sessiond.spool.verification import EACH_MS, RESULT, last_check_ms, read_verification
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness
from support.sample_tree import build

OTHER = "6" + SESSION[1:]
OTHER_FILE = CLAUDE.replace(SESSION, OTHER)
SECRET = "ghp_" + "1A2b3C4d5E6f7G8h9I0jKlMnOpQrStUvWxYz"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path, configured=True) as made:
        yield made


def run(harness: DaemonHarness, *arguments: str, **environ: str) -> int:
    harness.spool.close()  # the command is another process
    try:
        return main(
            arguments,
            {
                "HOME": harness.home,
                "PATH": os.defpath,
                "SESSIOND_STATE_DIR": harness.state,
                "SESSIOND_CONFIG": os.devnull,
                "SESSIOND_MACHINE_ID": "testbox",
                "SESSIOND_ENDPOINT__URL": harness.endpoint.url,
                "SESSIOND_TOKEN": TOKEN,
                **environ,
            },
        )
    finally:
        harness.open()


def capture(harness: DaemonHarness) -> None:
    for session in (SESSION, OTHER):
        path = CLAUDE.replace(SESSION, session)
        harness.write(path, claude(session, 1), claude(session, 2, role="assistant"))
    harness.settle()


def endpoint_db(harness: DaemonHarness) -> sqlite3.Connection:
    return sqlite3.connect(Path(harness.endpoint.store.directory, "endpoint.db"), isolation_level=None)


def lose(harness: DaemonHarness, *statements: str) -> None:
    """Have the endpoint lose something without a trace: the ids of its last batches stay."""
    with closing(endpoint_db(harness)) as db:
        for statement in statements:
            db.execute(statement, (SESSION,))


RECORD = "DELETE FROM sessions WHERE session = ?"
_STREAMS = "(SELECT stream FROM streams WHERE session = ?)"
BYTES = (
    f"DELETE FROM chunks WHERE stream IN {_STREAMS}",
    f"UPDATE generations SET length = 0, sha256 = NULL WHERE stream IN {_STREAMS}",
)


def problems(harness: DaemonHarness, capsys: pytest.CaptureFixture[str], *words: str, **environ: str) -> list[str]:
    """What `verify` finds."""
    capsys.readouterr()
    code = run(harness, "verify", "--json", *words, **environ)
    answer = json.loads(capsys.readouterr().out)
    assert (code == 0) == answer["complete"] == (not answer["problems"])
    return [each["what"] for each in answer["problems"]]


@pytest.mark.parametrize("words", [[], ["--deep"]])
def test_all_is_safe(harness: DaemonHarness, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Of masked transcripts too: the files are masked again, as they were sent."""
    harness.write(CLAUDE, claude(SESSION, 0, text=f"my key is {SECRET}"))
    capture(harness)
    assert run(harness, "sync") == 0
    assert run(harness, "verify", *words) == 0
    assert "everything is safe: 2 sessions" in capsys.readouterr().out
    assert run(harness, "verify", SESSION[:8], "--tool", "claude-code", *words) == 0
    assert "everything is safe: 1 session\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("statements", "words", "found"),
    [
        ((RECORD,), [], "is not complete at the endpoint, which lacks its record"),
        (BYTES, [], "is not complete at the endpoint, which lacks stream main"),
    ],
)
def test_what_the_endpoint_lost_is_found_and_pushed_again(
    harness: DaemonHarness,
    capsys: pytest.CaptureFixture[str],
    statements: tuple[str, ...],
    words: list[str],
    found: str,
) -> None:
    """Nothing else shows it: no push follows, and the endpoint remembers the last batch."""
    capture(harness)
    lose(harness, *statements)
    (what,) = problems(harness, capsys, *words)
    assert found in what
    assert problems(harness, capsys, *words, "--tool", "codex") == []
    assert problems(harness, capsys, OTHER, *words) == []
    assert problems(harness, capsys, *words, "--repair") == []
    assert harness.held(SESSION) == Path(harness.home, CLAUDE).read_bytes()
    assert set(harness.held_sessions()) == {SESSION, OTHER}
    assert problems(harness, capsys, *words) == []


def test_files_that_are_not_captured_are_found(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """One that has grown, and one that is new; not one of an excluded project, and not one that was erased."""
    capture(harness)
    harness.forget(OTHER)
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 3))
    new = "7" + SESSION[1:]
    harness.write(CLAUDE.replace(SESSION, new), claude(new, 1))
    harness.write(CLAUDE.replace(SESSION, "8" + SESSION[1:]), claude("8" + SESSION[1:], 1, cwd="/home/dev/secret"))
    harness.write(CLAUDE.replace(SESSION, "9" + SESSION[1:]), b"")
    excluded = {"SESSIOND_EXCLUDE": '["/home/dev/secret"]'}
    found = problems(harness, capsys, **excluded)
    assert [what.rpartition(".jsonl ")[2] for what in sorted(found)] == [
        "has changed since it was captured",
        "is not captured yet",
    ]
    assert problems(harness, capsys, "--repair", **excluded) == []
    assert set(harness.held_sessions()) == {SESSION, new}


@pytest.mark.parametrize("stated", [False, True])
def test_other_bytes_at_the_endpoint_are_found_and_replaced(
    stated: bool, harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """The digest shows it. If the endpoint still states that of the right ones, only reading them does.

    The right ones become a new generation.
    """
    harness.write(CLAUDE, claude(SESSION, 0, text="one text"))
    harness.settle()
    with closing(endpoint_db(harness)) as db:
        (frame,) = db.execute("SELECT frame FROM chunks").fetchone()
        other = zstd.compress(zstd.decompress(frame, 1 << 20).replace(b"one text", b"two text"))
        db.execute("UPDATE chunks SET frame = ?", (other,))
        if not stated:
            db.execute("UPDATE generations SET sha256 = NULL")
            harness.endpoint.store.digests.clear()
    first = problems(harness, capsys)
    assert len(first) == (not stated)
    (found,) = first or problems(harness, capsys, "--deep")
    assert "other bytes" in found
    assert problems(harness, capsys, "--repair", *(["--deep"] if stated else [])) == []
    assert harness.held(SESSION) == Path(harness.home, CLAUDE).read_bytes()


@pytest.mark.parametrize("stated", [False, True])
@pytest.mark.parametrize("damage", ["UPDATE chunks SET frame = zeroblob(20)", "DELETE FROM chunks"])
def test_bytes_that_the_endpoint_can_not_read_are_found_and_replaced(
    damage: str, stated: bool, harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that spoils one session makes no answer about the others impossible."""
    capture(harness)
    lose(harness, f"{damage} WHERE stream IN {_STREAMS}")
    if not stated:
        with closing(endpoint_db(harness)) as db:
            db.execute("UPDATE generations SET sha256 = NULL")
            db.execute("DELETE FROM checkpoints")
            harness.endpoint.store.digests.clear()
    first = problems(harness, capsys)
    assert len(first) == (not stated)
    assert problems(harness, capsys, OTHER, "--deep") == []
    (found,) = first or problems(harness, capsys, "--deep")
    assert "other bytes" in found
    assert problems(harness, capsys, "--repair", *(["--deep"] if stated else [])) == []
    assert harness.held(SESSION) == Path(harness.home, CLAUDE).read_bytes()
    assert problems(harness, capsys, "--deep") == []


@pytest.mark.parametrize("masked", [True, False])
def test_bytes_that_only_the_endpoint_has_are_compared_too(
    masked: bool, harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tool has deleted its file. What was captured of it, masked or not, is known by its digests."""
    harness.close()
    harness.settings["redact"] = "mask" if masked else "off"
    harness.open()
    path = harness.write(CLAUDE, claude(SESSION, 0, text=f"one text with {SECRET}"), claude(SESSION, 1))
    harness.settle()
    os.unlink(path)
    harness.settle()
    assert (SECRET.encode() in harness.held(SESSION)) != masked
    assert run(harness, "verify", "--deep", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tools"][0]["compared"] == 1
    with closing(endpoint_db(harness)) as db:
        (frame,) = db.execute("SELECT frame FROM chunks").fetchone()
        other = zstd.compress(zstd.decompress(frame, 1 << 20).replace(b"one text", b"two text"))
        db.execute("UPDATE chunks SET frame = ?", (other,))
    assert problems(harness, capsys) == []
    pushes = tokens.add(harness.endpoint.store, "ci", scopes=["push"])
    with closing(endpoint_db(harness)) as db:
        db.execute("UPDATE tokens SET device = ? WHERE name = 'ci'", (str(harness.device_id),))
    assert problems(harness, capsys, "--deep", SESSIOND_TOKEN=pushes) == []
    assert "other bytes of stream main than were captured" in problems(harness, capsys, "--deep")[0]
    assert problems(harness, capsys, "--deep", "--repair") != []


@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize("words", [(), ("--deep",)])
def test_a_token_that_the_endpoint_does_not_know_ends_the_comparison(
    captured: bool, words: tuple[str, ...], harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is another problem than a token that only pushes, and nothing was compared, however little there is."""
    if captured:
        capture(harness)
    else:
        harness.scan()
    assert run(harness, "verify", *words, SESSIOND_TOKEN="revoked") == exit_codes.REFUSED
    shown = capsys.readouterr()
    assert "answered 401" in shown.err and "check the token: SESSIOND_TOKEN or endpoint.token_file" in shown.err
    assert "may not read" not in shown.out + shown.err


def counts(harness: DaemonHarness, capsys: pytest.CaptureFixture[str], *words: str, **environ: str) -> dict[str, int]:
    """What `verify` counts of the only tool, and no problem."""
    capsys.readouterr()
    assert run(harness, "verify", "--json", *words, **environ) == 0
    (tool,) = json.loads(capsys.readouterr().out)["tools"]
    return {name: tool[name] for name in ("by_digest", "by_length", "compared")}


def test_digests_are_compared_and_no_byte_is_read(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """Where none is known, the lengths are, and the command says so. A token that only pushes is enough."""
    capture(harness)
    assert counts(harness, capsys) == {"by_digest": 2, "by_length": 0, "compared": 0}
    pushes = tokens.add(harness.endpoint.store, "ci", scopes=["push"])
    with closing(endpoint_db(harness)) as db:
        db.execute("UPDATE tokens SET device = ? WHERE name = 'ci'", (str(harness.device_id),))
    assert counts(harness, capsys, SESSIOND_TOKEN=pushes) == {"by_digest": 2, "by_length": 0, "compared": 0}
    harness.spool.connection.execute("DELETE FROM pushed_digest WHERE number = (SELECT max(number) FROM pushed_digest)")
    assert counts(harness, capsys) == {"by_digest": 1, "by_length": 1, "compared": 0}
    assert counts(harness, capsys, "--deep") == {"by_digest": 0, "by_length": 0, "compared": 2}
    capsys.readouterr()
    assert run(harness, "verify") == 0
    assert "1 stream was compared by length only, as no digest is known" in capsys.readouterr().out


def test_digests_outlive_a_change_of_rules_and_a_restart_of_the_endpoint(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client removes the bytes that it kept for them, and the endpoint computes them from its bytes."""
    capture(harness)
    harness.close()
    harness.settings["redact"] = "mask"
    harness.open()
    harness.settle()
    harness.endpoint.store.digests.clear()
    assert counts(harness, capsys) == {"by_digest": 2, "by_length": 0, "compared": 0}


@pytest.mark.parametrize("bytes_kept", [True, False])
def test_a_later_generation_of_other_bytes_does_not_pass_for_ours(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str], bytes_kept: bool
) -> None:
    """A copy of this state pushed it, and the endpoint was restored from a backup. What counts is what was pushed."""
    capture(harness)
    with closing(endpoint_db(harness)) as db:
        db.execute(
            "INSERT INTO generations (stream, generation, length, keep, base)"
            f" SELECT stream, 1, 0, 0, NULL FROM streams WHERE session = '{SESSION}'"
        )
    if not bytes_kept:
        lose(harness, f"DELETE FROM chunks WHERE stream IN {_STREAMS} AND generation = 0")
        lose(harness, f"UPDATE generations SET length = 0 WHERE stream IN {_STREAMS} AND generation = 0")
    found = problems(harness, capsys)
    if bytes_kept:
        assert found == [], "its earlier generations can be read"
        return
    assert found == ["the endpoint has other bytes of stream main than were captured"]
    assert problems(harness, capsys, "--repair") == []
    assert harness.held(SESSION) == Path(harness.home, CLAUDE).read_bytes()


def test_a_session_without_a_record_is_compared_too(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """Its tool has written no message yet. No list of the endpoint has it, and its bytes are there."""
    path = harness.write(CLAUDE, b'{"type":"summary","summary":"x","leafUuid":"1"}\n')
    harness.scan()
    assert problems(harness, capsys) == ["is not complete at the endpoint, and has no messages yet"]
    assert problems(harness, capsys, "--tool", "codex") == []
    harness.settle()
    assert problems(harness, capsys) == []
    lose(harness, *BYTES)
    harness.endpoint.store.digests.clear()
    assert problems(harness, capsys) == ["is not complete at the endpoint, and has no messages yet"]
    assert problems(harness, capsys, "--repair") == []
    assert harness.held(SESSION) == Path(path).read_bytes()


@pytest.mark.parametrize(
    "sample", ["claude-code/2.1-subagents", "opencode/1.18-database", "opencode/1.1-files", "gemini-cli/0.61-upgraded"]
)
def test_each_stream_of_every_kind_is_compared(
    sample: str, harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """Transcripts, documents, databases and side files: none is left out, and a bit that changes shows in each."""
    shutil.rmtree(harness.home)
    build(sample, Path(harness.home))
    harness.settle()
    query = "SELECT count(*) FROM stream WHERE folded > 0 AND skipped IS NULL"
    (streams,) = harness.spool.connection.execute(query).fetchone()
    assert counts(harness, capsys) == {"by_digest": streams, "by_length": 0, "compared": 0}
    assert counts(harness, capsys, "--deep") == {"by_digest": 0, "by_length": 0, "compared": streams}
    with closing(endpoint_db(harness)) as db:
        for chunk, frame in db.execute("SELECT chunk, frame FROM chunks").fetchall():
            changed = bytearray(zstd.decompress(frame, 1 << 24))
            changed[len(changed) // 2] ^= 1
            db.execute("UPDATE chunks SET frame = ? WHERE chunk = ?", (zstd.compress(bytes(changed)), chunk))
    assert problems(harness, capsys) == []
    found = [each for each in problems(harness, capsys, "--deep") if "other bytes" in each]
    assert len(found) >= streams


def test_a_stream_is_compared_whose_file_was_deleted_just_now(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """No scan has noticed yet that the file is gone."""
    capture(harness)
    os.unlink(Path(harness.home, CLAUDE))
    assert counts(harness, capsys, "--deep") == {"by_digest": 0, "by_length": 0, "compared": 2}
    with closing(endpoint_db(harness)) as db:
        for chunk, frame in db.execute("SELECT chunk, frame FROM chunks").fetchall():
            other = zstd.decompress(frame, 1 << 20).replace(b"hello", b"hullo")
            db.execute("UPDATE chunks SET frame = ? WHERE chunk = ?", (zstd.compress(other), chunk))
    assert "the endpoint has other bytes of stream main than were captured" in problems(harness, capsys, "--deep")


def test_what_the_user_gave_up_is_not_called_safe(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    capture(harness)
    harness.write(CLAUDE, claude(SESSION, 3))
    harness.scan()
    with harness.spool.transaction():
        harness.spool.outbox.park_segment(harness.spool.outbox.segments(9, 1 << 20)[0], "no")
    assert run(harness, "queue", "drop", SESSION, "--yes") == 0
    harness.settle()
    capsys.readouterr()
    assert run(harness, "verify") == 0
    out = capsys.readouterr().out
    assert "given up: 1 session, of which the endpoint lacks what you dropped" in out
    assert "everything else is safe: 1 session\n" in out


def test_rules_that_were_added_later_change_nothing(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """A transcript that was pushed unmasked, and would be masked today, is intact."""
    harness.write(CLAUDE, claude(SESSION, 0, text=f"my key is {SECRET}"))
    harness.settle()
    assert SECRET.encode() in harness.held(SESSION)
    assert problems(harness, capsys, "--deep") == []


def test_what_is_not_pushed_is_a_problem(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the same answer as that of `status`."""
    capture(harness)
    harness.write(CLAUDE, claude(SESSION, 3))
    harness.scan()
    assert problems(harness, capsys) == ["is on its way to the endpoint"]
    with harness.spool.transaction():
        harness.spool.outbox.park_segment(harness.spool.outbox.segments(9, 1 << 20)[0], "no")
    harness.push()
    assert "has a part that the endpoint refuses" in problems(harness, capsys)[0]
    assert problems(harness, capsys, "--repair") == []


def test_a_token_that_only_pushes_compares_transcripts(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    capture(harness)
    secret = tokens.add(harness.endpoint.store, "ci", scopes=["push"])
    lose(harness, *BYTES)
    token = {"SESSIOND_TOKEN": secret}
    headers = {"Authorization": f"Bearer {secret}", "Sessiond-Device": str(harness.device_id)}
    httpx.post(f"{harness.endpoint.url}/v1/push", headers=headers, content=b"{}\n", verify=False, timeout=60)
    (what,) = problems(harness, capsys, **token)
    assert "lacks stream main" in what
    assert problems(harness, capsys, OTHER, **token) == []


def test_the_daemon_compares_once_a_day(harness: DaemonHarness) -> None:
    """In one request for a page of sessions and one for digests, between two pushes. What is missing is pushed."""
    capture(harness)
    lose(harness, RECORD, *BYTES)

    def check(address: str) -> int:
        checking = PeriodicCheck(replace(harness.uploading, address=address))
        before = len(harness.transport.requests)
        while checking.step():
            pass
        return len(harness.transport.requests) - before

    assert check(harness.address) == 0, "not on the first day"
    harness.now_ms += EACH_MS
    assert check(harness.address) == 2, "the digest of the other session is compared"
    result = read_verification(harness.spool.meta(RESULT))
    assert result is not None
    assert (result.sessions, result.incomplete, result.at_ms) == (2, 1, harness.now_ms)
    harness.settle()
    assert harness.held(SESSION) == Path(harness.home, CLAUDE).read_bytes()
    assert set(harness.held_sessions()) == {SESSION, OTHER}
    assert check(harness.address) == 0
    assert check("https://other.example.org") == 0, "that is another endpoint"
    harness.now_ms += EACH_MS
    assert check(harness.address) == 2
    again = read_verification(harness.spool.meta(RESULT))
    assert again is not None
    assert (again.sessions, again.incomplete) == (2, 0)


def test_status_shows_the_last_comparison(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """Not one with another endpoint."""
    capture(harness)
    lose(harness, RECORD)
    assert run(harness, "verify", "--repair") == 0
    capsys.readouterr()
    run(harness, "status")
    assert "just now: the endpoint has 2 sessions (2 streams) completely" in capsys.readouterr().out
    run(harness, "status", SESSIOND_ENDPOINT__URL="http://127.0.0.1:1")
    assert "completely" not in capsys.readouterr().out


def shown(harness: DaemonHarness, capsys: pytest.CaptureFixture[str], **environ: str) -> dict[str, Any]:
    """The answer of `status` beside a daemon: without one, it is never healthy."""
    capsys.readouterr()
    lock = state.Lock(harness.state)
    run(harness, "status", "--json", **environ)
    lock.release()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_a_whole_verify_is_the_last_check_that_status_shows(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the streams that were compared. One of some sessions is not."""
    capture(harness)
    for words in ((SESSION,), ("--tool", "claude-code")):
        assert run(harness, "verify", *words) == 0
        assert shown(harness, capsys)["verification"] is None
    assert run(harness, "verify") == 0
    answer = shown(harness, capsys)
    found = answer["verification"]
    assert (found["sessions"], found["streams"], found["incomplete"], found["different"]) == (2, 2, 0, 0)
    assert answer["healthy"]
    assert last_check_ms(harness.spool, harness.address) == found["at_ms"]
    run(harness, "status")
    assert "just now: the endpoint has 2 sessions (2 streams) completely" in capsys.readouterr().out


def replace_bytes(harness: DaemonHarness) -> None:
    """Have the endpoint change bytes of one stream, and compute its digest from them."""
    with closing(endpoint_db(harness)) as db:
        row, frame = db.execute("SELECT rowid, frame FROM chunks").fetchone()
        other = zstd.compress(zstd.decompress(frame, 1 << 20).replace(b'"user"', b'"uses"'))
        db.execute("UPDATE chunks SET frame = ? WHERE rowid = ?", (other, row))
        db.execute("UPDATE generations SET sha256 = NULL")
    harness.endpoint.store.digests.clear()


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda harness: lose(harness, RECORD), "just now: 1 of 2 sessions incomplete at the endpoint, pushed again"),
        (lambda harness: lose(harness, *BYTES), "just now: 1 of 2 sessions incomplete at the endpoint, pushed again"),
        (replace_bytes, "just now: the endpoint had other bytes of 1 stream, pushed again where possible"),
    ],
)
def test_what_verify_finds_missing_no_longer_counts_as_acknowledged(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str], damage: Callable[[DaemonHarness], None], line: str
) -> None:
    """A daemon pushes it again, as after its own comparison; `--repair` is for those who have none."""
    capture(harness)
    damage(harness)
    assert harness.spool.stats.totals().complete
    assert run(harness, "verify") == exit_codes.DEGRADED
    capsys.readouterr()
    run(harness, "status")
    assert line in " ".join(capsys.readouterr().out.split())
    assert not harness.spool.stats.totals().complete
    harness.settle()
    assert harness.spool.stats.totals().complete
    assert run(harness, "verify", "--deep") == 0


def test_verify_answers_though_its_result_can_not_be_stored(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """The comparison was made all the same."""
    capture(harness)
    harness.spool.connection.execute(
        f"CREATE TRIGGER full BEFORE INSERT ON meta WHEN new.key = '{RESULT}' BEGIN SELECT raise(FAIL, 'no room'); END"
    )
    assert run(harness, "verify") == 0
    captured = capsys.readouterr()
    assert "everything is safe" in captured.out
    assert "`status` will not show this result: " in captured.err


def test_what_only_the_built_in_archive_has_is_a_problem(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a loss of the spool its sessions are in no other list, and all others may be safe."""
    capture(harness)
    archive = Path(harness.state, "archive", "endpoint.db")
    archive.parent.mkdir()
    archive.touch()
    harness.archive = harness.endpoint  # one exists, so what was found in it is kept at the next start
    assert problems(harness, capsys) == ["the built-in archive was not compared with the endpoint yet"]
    assert problems(harness, capsys, "--tool", "claude-code") == []  # it is not known what its sessions are
    with harness.spool.transaction():
        harness.spool.set_meta(ARCHIVE_LISTED, f"archive {harness.spool.meta('endpoint')}")
    assert problems(harness, capsys) == []
    found = ArchivedSession(session=uuid.UUID(int=1), machine_id="testbox", bytes=5, active_ms=1)
    with harness.spool.transaction():
        harness.spool.archived.add([found])
    assert problems(harness, capsys) == ["the endpoint does not have 1 session of the built-in archive yet"]
    with harness.spool.transaction():
        harness.spool.archived.refuse(found, "it is too large")
    assert problems(harness, capsys)[0].endswith("of the built-in archive yet: it is too large")
    with harness.spool.transaction():
        harness.spool.archived.fail("it is damaged")
    assert problems(harness, capsys) == ["the built-in archive can't be read: it is damaged"]
