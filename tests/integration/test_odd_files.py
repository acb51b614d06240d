"""Unusual files: odd names, wrong clocks, errors in the middle. They do not affect other files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace

from sessiond import ingest as ingest_room
from sessiond import reader
from sessiond.device import identify
from sessiond.errors import Torn
from sessiond.ingest import Index, line_reader
from sessiond.ingest import content as content_room
from sessiond.session import Item
from sessiond.sources.base import Kind, Root
from sessiond.sources.claude_code import ClaudeCode
from support.harness import CLAUDE, NOW_MS, SESSION, DaemonHarness, claude, daemon_harness, encode


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def big(harness: DaemonHarness, relative: str, session: str = SESSION, count: int = 400) -> str:
    """Write more than a small outbox takes."""
    return harness.write(relative, *(claude(session, n, text=os.urandom(3000).hex()) for n in range(count)))


class Meddler(reader.Digest):
    """A digest after whose first use another process writes, between two reads of one scan."""

    def __init__(self, seed: int, write: Callable[[], object]) -> None:
        super().__init__(seed)
        self.write: Callable[[], object] | None = write

    def __call__(self, *parts: bytes) -> bytes:
        found = super().__call__(*parts)
        write, self.write = self.write, None
        if write is not None:
            write()
        return found


@pytest.mark.parametrize("length", [10, 3000, 9000])
@pytest.mark.parametrize("restart", [False, True])
def test_a_rewrite_between_two_reads_is_found_out(length: int, restart: bool, harness: DaemonHarness) -> None:
    """Droid puts the title into its first line 20 ms after an append: a mixture of both is no transcript."""
    first, second = claude(SESSION, 1, text="x" * length), claude(SESSION, 2)
    path = harness.write(CLAUDE, first)
    harness.settle()
    harness.write(CLAUDE, second)
    after = encode({**first, "title": "Dye it red"}) + encode(second)
    digest = harness.ingesting.digest
    harness.ingesting = replace(
        harness.ingesting, digest=Meddler(identify(harness.state).seed, lambda: Path(path).write_bytes(after))
    )
    harness.ingest(path)
    harness.ingesting = replace(harness.ingesting, digest=digest)
    harness.write(CLAUDE, claude(SESSION, 3))
    if restart:
        harness.close()
        harness.open()
    harness.settle()
    assert harness.held(SESSION) == after + encode(claude(SESSION, 3))
    assert harness.held_sessions()[SESSION]["record"]["message_count"] == 3


def test_a_name_that_is_not_utf_8_is_captured(tmp_path: Path) -> None:
    """The directory's name is not UTF-8: the record has it as closely as text can."""
    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        path = big(harness, os.fsdecode(b".claude/projects/-home-\xff/" + SESSION.encode() + b".jsonl"))
        content = Path(path).read_bytes()
        harness.scan()
        os.unlink(path)
        harness.settle(200)
        assert harness.held(SESSION) == content
        assert "/-home-" in harness.held_sessions()[SESSION]["record"]["source_path"]


def test_a_long_name_is_pinned(tmp_path: Path) -> None:
    """The name of a pin has no part of the file's name, which may be too long beside our number."""
    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        path = big(harness, f".claude/projects/-x/{SESSION}/subagents/agent-{'é' * 110}.jsonl")
        harness.write(f".claude/projects/-x/{SESSION}.jsonl", claude(SESSION, 900))
        harness.scan()
        if harness.places(path):
            assert len(os.listdir(harness.ingesting.pins.directory)) == 1


def test_a_stream_is_named_so_that_the_endpoint_takes_it(harness: DaemonHarness) -> None:
    """A file name may be longer than a stream's name may be. Neither the record nor the bytes may be refused for it."""
    harness.write(CLAUDE, claude(SESSION, 1))
    name = f"agent-{'x' * 210}"
    path = harness.write(f".claude/projects/-home-dev-project/{SESSION}/subagents/{name}.jsonl", claude(SESSION, 2))
    harness.settle()
    assert harness.spool.stats.waiting().parked == 0
    names = [stream["name"] for stream in harness.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]]
    other = next(name for name in names if name != "main")
    assert harness.held(SESSION, other) == Path(path).read_bytes()


def test_what_a_record_says_is_bounded(harness: DaemonHarness) -> None:
    """A name of megabytes must not make a record that the endpoint refuses."""
    huge = "x" * (2 << 20)
    line = claude(SESSION, 1, role="assistant", cwd=huge, gitBranch=huge, version=huge)
    line["message"]["model"] = huge
    harness.write(CLAUDE, line, {"type": "custom-title", "customTitle": huge, "sessionId": SESSION})
    harness.settle()
    assert harness.spool.stats.waiting().parked == 0
    assert len(str(harness.held_sessions()[SESSION]["record"])) < 20_000


def test_a_clock_of_1970_costs_no_record(harness: DaemonHarness) -> None:
    """A machine may start without its clock: the times in its files are compared only with their own times."""
    path = harness.write(CLAUDE, claude(SESSION, 1))
    os.utime(path, (NOW_MS / 1000, NOW_MS / 1000))
    harness.now_ms = 3_600_000
    harness.scan()
    session = harness.spool.catalog.session(UUID(SESSION))
    assert session is not None
    assert session.record is not None
    assert session.record.started_at.year == 2026


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_an_error_of_the_system_is_the_files_alone(
    harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Rule 9: for any error, the file is reported and no thread ends."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setitem(ingest_room._CAPTURES, Kind.LINES, fail)
    path = harness.write(CLAUDE, claude(SESSION, 1))
    (outcome,) = harness.ingest(path)
    assert outcome.trouble


def test_a_file_that_fails_late_leaves_nothing_half_stored(
    harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several files share a commit. If one fails, only its own changes are undone."""
    harness.write(CLAUDE, claude(SESSION, 1))
    path = os.path.join(harness.home, CLAUDE)
    real = content_room.Lines.probe

    def torn(*_: object) -> bytes:
        raise Torn("cut")

    with harness.spool.transaction():
        harness.spool.set_meta("other", "stays")
        monkeypatch.setattr(content_room.Lines, "probe", torn)
        (outcome,) = harness.ingest(path)
        assert outcome.retry
    assert harness.spool.meta("other") == "stays"
    assert harness.spool.stats.waiting().segments == 0
    assert harness.spool.catalog.extents(1) == []
    assert harness.spool.outbox.size == 0
    monkeypatch.setattr(content_room.Lines, "probe", real)
    harness.settle()
    assert harness.held_sessions()[SESSION]["record"]["message_count"] == 1


def test_a_record_follows_a_rewrite_that_was_interrupted(
    harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon died after it began the generation: there is nothing more to read, but a record to make."""
    path = harness.write(CLAUDE, *(claude(SESSION, n) for n in range(2)))
    harness.scan()
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.settle()
    os.truncate(path, os.path.getsize(path) - len(encode(claude(SESSION, 2))))

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> bool:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr("sessiond.ingest.record.RecordBuilder.refresh", die)
        with pytest.raises(Killed):
            harness.ingest(path)
    harness.close()
    harness.open()
    harness.settle()
    assert harness.held_sessions()[SESSION]["record"]["message_count"] == 2


def test_a_long_record_stands_whole_or_not_at_all(harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generation begins between two records, never between the pieces of one."""
    monkeypatch.setattr(line_reader, "CHUNK", 1024)
    monkeypatch.setattr(line_reader, "LONG_RECORD", 4096)
    path = harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, text="x" * 9000))
    harness.settle()
    content = bytearray(Path(path).read_bytes())
    content[-20:-10] = b"y" * 10
    Path(path).write_bytes(content)
    harness.settle()
    assert harness.held(SESSION) == bytes(content)
    streams = harness.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]
    assert streams[0]["generations"][1]["keep"] == len(encode(claude(SESSION, 1)))


def test_what_a_rewrite_takes_before_it_was_queued_counts_as_lost(tmp_path: Path) -> None:
    """The bytes waited in the file for room, and the tool overwrote them: `status` has to report that."""
    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        path = big(harness, CLAUDE)
        harness.scan()
        stream = harness.spool.catalog.stream(1)
        waited = stream.folded - stream.queued
        assert waited > 0
        Path(path).write_bytes(encode(claude(SESSION, 500)))
        harness.settle(200)
        assert harness.spool.stats.totals().lost_bytes == waited


def test_a_pin_follows_its_file_to_another_inode(tmp_path: Path) -> None:
    """A tool saves by writing beside and renaming: the bytes that wait are in the new file, so that is linked."""
    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        path = big(harness, CLAUDE)
        harness.scan()
        content = Path(path).read_bytes() + encode(claude(SESSION, 900))
        Path(path + ".tmp").write_bytes(content)
        os.replace(path + ".tmp", path)
        harness.ingest(path)
        os.unlink(path)
        harness.settle(200)
        assert harness.held(SESSION) == content
        assert os.listdir(harness.ingesting.pins.directory) == []


def test_our_link_to_a_file_is_no_change_of_it(tmp_path: Path) -> None:
    """Making and removing the link changes the ctime, and the whole file would be read and compared each time."""

    def unchanged() -> bool:
        known = harness.spool.catalog.file(path)
        assert known is not None
        assert known.checkpoint is not None
        return known.checkpoint.unchanged(os.stat(path))

    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        path = big(harness, CLAUDE)
        harness.scan()
        assert os.stat(path).st_nlink == 2
        assert unchanged()
        harness.ingesting = replace(harness.ingesting, budget=1 << 24)
        harness.scan()
        assert os.stat(path).st_nlink == 1
        assert unchanged()


def test_unknown_pins_are_removed_at_the_start(tmp_path: Path) -> None:
    """A process may have died after it made one. A pin that is the last link to its bytes stays."""
    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        path = big(harness, CLAUDE)
        harness.scan()
        pins = harness.ingesting.pins
        (known,) = os.listdir(pins.directory)
        os.link(path, pins.path("77-0123456789abcdef"))
        os.link(path, pins.path(f"{known}.new"))
        Path(pins.path("78-0123456789abcdef")).write_bytes(b"the last of it\n")
        os.mkdir(pins.path("no pin"))
        harness.close()
        harness.open()
        assert set(os.listdir(pins.directory)) == {known, "78-0123456789abcdef", "no pin"}
        os.unlink(path)
        harness.settle(200)
        assert len(harness.held(SESSION).splitlines()) == 400


def test_no_pin_is_left_when_a_stream_is_caught_up(tmp_path: Path) -> None:
    """The pin of a file that moved away would keep its bytes on the disk for good."""
    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        path = big(harness, CLAUDE)
        harness.scan()
        moved = os.path.join(harness.home, f".claude/projects/-elsewhere/{SESSION}.jsonl")
        os.makedirs(os.path.dirname(moved))
        os.rename(path, moved)
        harness.settle(200)
        assert harness.held(SESSION) == Path(moved).read_bytes()
        assert os.listdir(harness.ingesting.pins.directory) == []


def test_a_path_with_the_sign_of_a_container_is_a_path(tmp_path: Path) -> None:
    """`::` separates a container from its content, and may be part of a directory's name."""
    with daemon_harness(tmp_path, budget=1 << 16) as harness:
        path = big(harness, f".claude/projects/-a::b/{SESSION}.jsonl")
        harness.settle(200)
        assert harness.held(SESSION) == Path(path).read_bytes()
        assert harness.spool.stats.totals().lost_bytes == 0


def test_extents_are_not_all_read_for_an_append(harness: DaemonHarness) -> None:
    """An append costs what was added, however many came before."""
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()
    seen: list[str] = []
    harness.spool.connection.set_trace_callback(seen.append)
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.ingest(os.path.join(harness.home, CLAUDE))
    harness.spool.connection.set_trace_callback(None)
    assert not [sql for sql in seen if sql.startswith("SELECT start, length, digest FROM extent")]


def test_an_index_of_many_roots_names_the_places_of_a_path_as_each_root_would(tmp_path: Path) -> None:
    """Roots may be nested, be shared by sources, and be added later."""
    with daemon_harness(tmp_path) as harness:
        source = next(source for source, _ in harness.ingesting.roots if source.tool == "claude-code")
        outer, inner = Root(path="/home/ada/projects/"), Root(path="/home/ada/projects/-p")
        roots = [(source, outer), (source, Root(path="/elsewhere")), (source, outer)]
        index = Index(roots)
        assert [place.root for place in index(f"/home/ada/projects/-p/{SESSION}.jsonl")] == [outer.path] * 2
        below = f"/home/ada/projects/-p/-q/{SESSION}.jsonl"
        before = [place.root for place in index(below)]
        roots.append((source, inner))
        assert [place.root for place in index(below)] == [*before, inner.path]
        assert index(below)[-1].relative == f"-q/{SESSION}.jsonl"
        for other in ("", "/", "x", "/home/ada/projects", "/home/ada/projects/", "/home/ada/projects-2/-p/x.jsonl"):
            assert index(other) == []


def test_what_is_read_again_is_what_was_captured_or_nothing(tmp_path: Path) -> None:
    """A gap at the endpoint is filled from the file, unless a tool has changed these bytes since."""
    path, digest = tmp_path / "file", reader.Digest(1)
    path.write_bytes(b"one\ntwo\n")
    extent = reader.Extent(start=4, length=4, digest=digest(b"two\n"))
    with path.open("rb") as file:
        assert content_room.Lines(file.fileno(), digest).slice(extent) == b"two\n"
        path.write_bytes(b"one\nTWO\n")
        assert content_room.Lines(file.fileno(), digest).slice(extent) is None


def test_a_record_that_can_not_be_shown_is_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field has a type that no version writes: the session loses its name, and nothing else."""

    def broken(*_: object) -> Iterator[Item]:
        raise TypeError("a field of another type")

    monkeypatch.setattr(ClaudeCode, "items", broken)
    with daemon_harness(tmp_path) as harness:
        path = harness.write(CLAUDE, claude(SESSION, 1))
        harness.settle()
        assert harness.held(SESSION) == Path(path).read_bytes()
        (session,) = harness.spool.catalog.sessions()
        assert session.record is not None and session.title is None


def test_a_chat_of_aider_that_lost_its_header_is_captured(harness: DaemonHarness) -> None:
    """It has no start, so the times of the file are used."""
    lines = b"\n#### weave a cloth  \n\nWoven.\n\n# aider chat started at 2026-09-01 10:00:00\n\n#### spin  \n\nSpun.\n"
    path = harness.write(".aider.chat.history.md", lines)
    os.utime(path, (NOW_MS / 1000 - 60, NOW_MS / 1000 - 60))
    harness.settle()
    records = sorted((each["record"] for each in harness.held_sessions().values()), key=lambda it: it["started_at"])
    assert [each["message_count"] for each in records] == [2, 2]
    Path(path).write_bytes(b"notes of my own\n")
    assert [outcome.trouble for outcome in harness.ingest(path)] == [None]


START = (
    b"\n# aider chat started at 2026-09-01 10:00:00\n\n"
    b"> Aider v0.86.2  \n> Main model: first with diff edit format  \n\n"
)


@pytest.mark.parametrize(
    ("typed", "count", "model"),
    [
        (b"#### /ask why?  \n\nBecause.\n", 2, "first"),  # a prompt, although it begins as a command
        (b"#### /architect a loom  \n#### /of oak  \n\nBuilt.\n\n#### /code it  \n\nDone.\n", 4, "first"),
        (b"#### weave  \n#### /usr/bin/loom  \n#### !now  \n\nWoven.\n", 2, "first"),  # one prompt of three lines
        (b"#### weave  \n\nWoven.\n\n#### !ls  \n#### cloth  \n\n#### /ask  \n\n#### /run ls  \n", 2, "first"),
        # What a command prints is no answer, and what is in it no model.
        (b"#### weave  \n\nWoven.\n\n#### /git show  \n> commit 1\nAuthor: A\n\n    Model: x\nend  \n", 2, "first"),
        (b"#### /git show  \n> Model: x\n#### y  \n\n#### weave  \n> Said x\n\nWoven.\n", 2, "first"),
        (b"#### /model second  \n> Main model: second with diff edit format  \n\n#### weave  \n\nOk.\n", 2, "second"),
        (b"#### weave  \n> a quote of the model\n\nWoven.\n> Model: x with care\n\n> Tokens: 9  \n", 2, "first"),
    ],
    ids=["ask", "architect", "lines", "shell", "git", "no model", "model", "quote"],
)
def test_commands_of_aider_are_no_messages(harness: DaemonHarness, typed: bytes, count: int, model: str) -> None:
    """Except for those that send a prompt: a session may have no others, and would be missed."""
    harness.write(".aider.chat.history.md", START + typed)
    harness.settle()
    (record,) = [each["record"] for each in harness.held_sessions().values()]
    assert (record["message_count"], record["model"], record["tool_version"]) == (count, model, "0.86.2")
