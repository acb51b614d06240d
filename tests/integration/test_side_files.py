"""Side files: files that belong to a session are captured byte for byte, like its transcripts and masked like them."""

from __future__ import annotations

import json
import os
import random
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from test_safety import World

from sessiond.cli import main
from sessiond.config.load import load_valid
from sessiond.ingest import Outcome
from sessiond.ingest.file_bytes import FileBytes
from sessiond.ingest.line_reader import CONTEXT
from sessiond.reader import CHUNK, Digest
from sessiond.redact import Policy, Redactor
from sessiond.sources import find_roots, find_side_roots, find_sources
from sessiond.sources.links import find_unit
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness

TOKEN = b"ghp_" + b"R8kQ2vLx7TzM4nWc9YbH3sJd6FgA1pE5uX0i"  # the shape of a secret, and none
RESULTS = f".claude/projects/-home-dev-project/{SESSION}/tool-results"
NAME = "tool-results/toolu_01.txt"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as harness:
        yield harness


def redacting(harness: DaemonHarness) -> None:
    """Mask secrets in the harness, as every real installation does."""

    harness.settings["redact"] = "mask"
    harness.close()
    harness.open()


def generations(harness: DaemonHarness, name: str) -> list[dict]:
    """Return the generations of a stream at the endpoint."""
    found = harness.get(f"/v1/sessions/{harness.machine_id}/{SESSION}/streams").json()["streams"]
    return next(stream["generations"] for stream in found if stream["name"] == name)


def png(seed: int, size: int = 200_000) -> bytes:
    """Return a file like an image: a signature, and data that can't be compressed."""
    return b"\x89PNG\r\n\x1a\n" + zlib.compress(random.Random(seed).randbytes(size), 1)


def test_a_side_file_is_captured_byte_for_byte_with_its_media_type(home: DaemonHarness) -> None:
    """The full output of a command reaches the endpoint as a stream of its session, with any bytes."""
    output = "".join(f"{number}\r\n" for number in range(30_000)).encode() + b"\0\xff no newline at the end"
    home.write(CLAUDE, claude(SESSION, 1))
    home.write(f"{RESULTS}/toolu_01.txt", output)
    home.settle()

    answer = home.get(f"/v1/sessions/{home.machine_id}/{SESSION}/streams/{NAME}")
    assert (answer.content, answer.headers["content-type"]) == (output, "text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    streams = home.get(f"/v1/sessions/{home.machine_id}/{SESSION}/streams").json()["streams"]
    assert {stream["name"]: stream["media_type"] for stream in streams} == {
        "main": "application/x-ndjson",
        NAME: "text/plain",
    }
    transcript = home.get(f"/v1/sessions/{home.machine_id}/{SESSION}/streams/main")
    assert transcript.headers["content-type"] == "application/x-ndjson"


def test_side_files_never_make_or_change_a_record(home: DaemonHarness) -> None:
    """A side file without a session is not stored, nor its path. One of a session makes no new revision."""
    path = home.write(f"{RESULTS}/toolu_01.txt", b"all of it\n")
    assert home.ingest(path) == [Outcome(sessionless=True)]
    assert home.spool.connection.execute("SELECT count(*) FROM file").fetchone() == (0,)
    assert home.spool.connection.execute("SELECT count(*) FROM session").fetchone() == (0,)

    main = home.write(CLAUDE, claude(SESSION, 1))
    assert home.ingest(main)[0].sessions == {SESSION}
    before = home.spool.connection.execute("SELECT * FROM session").fetchall()
    assert home.ingest(path)[0].read == 10
    assert home.spool.connection.execute("SELECT * FROM session").fetchall() == before


def test_the_side_files_of_an_excluded_project_leave_no_trace(home: DaemonHarness) -> None:
    """Nothing of an excluded session is stored. If it is excluded later, its side files are removed with it."""
    home.write(CLAUDE, claude(SESSION, 1))
    home.write(f"{RESULTS}/toolu_01.txt", b"all of it\n")
    home.scan()
    assert home.spool.connection.execute("SELECT count(*) FROM stream").fetchone() == (2,)

    home.settings["exclude"] = ["/home/dev/project"]
    home.close()
    home.open()
    home.scan()
    for table in ("stream", "file", "segment", "extent", "mention"):
        assert home.spool.connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_an_appended_side_file_continues_its_generation(home: DaemonHarness) -> None:
    """Only the added bytes are read and pushed."""
    home.write(CLAUDE, claude(SESSION, 1))
    path = home.write(f"{RESULTS}/toolu_01.txt", b"begins without a newline")
    home.settle()
    home.write(f"{RESULTS}/toolu_01.txt", b" and goes on\n")
    assert home.ingest(path)[0].read == 13
    home.settle()
    assert home.held(SESSION, NAME) == b"begins without a newline and goes on\n"
    assert [each["generation"] for each in generations(home, NAME)] == [0]


def test_a_side_file_that_changes_at_its_end_shares_its_beginning(home: DaemonHarness) -> None:
    """All of a large file would be pushed again otherwise."""
    home.write(CLAUDE, claude(SESSION, 1))
    content = random.Random(1).randbytes(3 * CHUNK)
    home.write(f"{RESULTS}/toolu_01.txt", content)
    home.settle()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    home.write(f"{RESULTS}/toolu_01.txt", changed, mode="wb")
    home.settle()
    assert home.held(SESSION, NAME) == changed
    assert home.held(SESSION, NAME, generation=0) == content
    assert [each["keep"] for each in generations(home, NAME)] == [0, CHUNK]


def test_a_replaced_image_is_a_new_generation(home: DaemonHarness) -> None:
    """Both images can be read afterwards, unchanged byte for byte."""
    redacting(home)
    home.write(CLAUDE, claude(SESSION, 1))
    relative, name = f".claude/image-cache/{SESSION}/1.png", "image-cache/1.png"
    first, second = png(1), png(2)
    home.write(relative, first)
    home.settle()
    home.write(relative, second, mode="wb")
    home.settle()

    assert home.held(SESSION, name, generation=0) == first
    assert home.held(SESSION, name) == second
    assert home.get(f"/v1/sessions/{home.machine_id}/{SESSION}/streams/{name}").headers["content-type"] == "image/png"


@pytest.mark.parametrize("cut", [1, 20, len(TOKEN) - 1])
def test_a_secret_that_is_written_in_two_parts_is_masked_as_in_one(home: DaemonHarness, cut: int) -> None:
    """What the endpoint has at last is what it would have if the file had been read in one go."""
    redacting(home)
    text = b"token=" + TOKEN + b" and more\n"
    home.write(CLAUDE, claude(SESSION, 1))
    begin = text.index(TOKEN) + cut
    home.write(f"{RESULTS}/toolu_01.txt", text[:begin])
    home.settle()
    home.write(f"{RESULTS}/toolu_01.txt", text[begin:])
    home.settle()

    masked = Redactor(Policy()).mask(text).data
    assert TOKEN not in masked
    assert home.held(SESSION, NAME) == masked


@pytest.mark.parametrize("shift", [-40, -20, 0])
def test_a_secret_across_two_pieces_is_masked(home: DaemonHarness, shift: int) -> None:
    """A long file is read in pieces, and a secret may lie across the end of one, between any two bytes."""
    redacting(home)
    line = b"all is well here\n"
    before = (line * (CHUNK // len(line) + 1))[: CHUNK + shift]
    text = before[:-1] + b"\n" + TOKEN + b"\n" + line * 1000
    home.write(CLAUDE, claude(SESSION, 1))
    home.write(f"{RESULTS}/toolu_01.txt", text)
    home.settle()
    held = home.held(SESSION, NAME)
    assert held == text.replace(TOKEN, TOKEN[:4] + b"*" * 36) or (TOKEN[8:] not in held and len(held) == len(text))
    assert held.replace(b"*", b"").startswith(before[:-1])


def test_the_last_line_waits_until_the_file_is_quiet(home: DaemonHarness) -> None:
    """Half a line that is still being written may hold half a secret, so it is left for a moment."""
    home.ingesting = replace(home.ingesting, settle_ms=1000)
    home.write(CLAUDE, claude(SESSION, 1))
    path = home.write(f"{RESULTS}/toolu_01.txt", b"one\ntwo\nthr")
    os.utime(path, ns=(home.now_ms * 1_000_000, home.now_ms * 1_000_000))
    home.ingest(os.path.join(home.home, CLAUDE))
    first = home.ingest(path)[0]
    assert (first.read, first.retry) == (8, True)
    home.now_ms += 1000
    second = home.ingest(path)[0]
    assert (second.read, second.retry) == (3, False)
    home.settle()
    assert home.held(SESSION, NAME) == b"one\ntwo\nthr"


def test_a_file_above_the_limit_is_cut_and_reported(home: DaemonHarness) -> None:
    """Its first bytes are captured, and `status` and `sources` name the file."""
    home.ingesting = replace(home.ingesting, side_file_max_bytes=2 << 20)
    home.write(CLAUDE, claude(SESSION, 1))
    data = png(3, 3 << 20)
    path = home.write(f"{RESULTS}/toolu_01.txt", data)
    home.settle()
    assert home.held(SESSION, NAME) == data[: 2 << 20]
    (trouble,) = home.spool.stats.troubles(10)
    assert (trouble.path, trouble.reason) == (
        path,
        "larger than side_file_max_bytes: only its first 2 MiB are captured",
    )
    # The limit is raised and the daemon started again.
    home.ingesting = replace(home.ingesting, side_file_max_bytes=64 << 20)
    home.settle()
    assert home.held(SESSION, NAME) == data
    assert home.spool.stats.troubles(10) == []
    assert [each["generation"] for each in generations(home, NAME)] == [0]


def test_a_deleted_side_file_is_safe_only_if_it_was_acknowledged(home: DaemonHarness) -> None:
    """A session counts as safe once its side files are acknowledged too, and is not gone because one of them is."""
    home.write(CLAUDE, claude(SESSION, 1))
    path = home.write(f"{RESULTS}/toolu_01.txt", b"all of it\n")
    home.settle()
    assert home.spool.safety.total().acknowledged == 1
    home.write(f"{RESULTS}/toolu_01.txt", b"more\n")
    home.ingest(path)
    assert home.spool.safety.total().waiting == 1
    os.unlink(path)
    home.settle()
    assert home.spool.safety.total().acknowledged == 1
    assert home.held(SESSION, NAME) == b"all of it\nmore\n"
    assert home.held_sessions()[SESSION]["gone_at"] is None

    os.unlink(os.path.join(home.home, CLAUDE))
    home.write(f"{RESULTS}/toolu_02.txt", b"left behind\n")
    home.settle()
    assert home.held_sessions()[SESSION]["gone_at"] is not None


def test_a_side_file_waits_pinned_while_the_outbox_is_full(tmp_path: Path) -> None:
    """Its tool may delete it before there is space: its hard link in the state directory has the bytes."""
    with daemon_harness(tmp_path, budget=1 << 20) as home:
        home.write(CLAUDE, claude(SESSION, 1))
        data = png(4, 6 << 20)
        path = home.write(f"{RESULTS}/toolu_01.txt", data)
        home.scan()
        assert os.listdir(os.path.join(home.state, "pins"))
        os.unlink(path)
        home.settle(60)
        assert home.held(SESSION, NAME) == data
        assert os.listdir(os.path.join(home.state, "pins")) == []


@pytest.mark.parametrize(
    "name", ["ünïcode \u202e.txt", "a\nb.txt", "x" * 200 + ".txt", "back\\slash", os.fsdecode(b"\xff.txt")]
)
def test_names_with_odd_characters_are_captured(home: DaemonHarness, name: str) -> None:
    """The name of the stream follows the protocol's rules, and no two files share one."""
    home.write(CLAUDE, claude(SESSION, 1))
    home.write(f"{RESULTS}/{name}", b"first\n")
    home.write(f"{RESULTS}/{name}2", b"second\n")
    home.settle()
    streams = home.get(f"/v1/sessions/{home.machine_id}/{SESSION}/streams").json()["streams"]
    contents = {home.held(SESSION, each["name"]) for each in streams if each["name"] != "main"}
    assert contents == {b"first\n", b"second\n"}


def test_files_on_their_way_to_another_name_are_no_side_files(home: DaemonHarness) -> None:
    """These are locks, keys, and temporary files that are renamed when they are complete."""
    home.write(CLAUDE, claude(SESSION, 1))
    for name in ("a.meta.json.tmp.4711", "b.txt.tmp", ".c.lock", "d.pid", "e.key", "f~", "g.txt.temp"):
        path = home.write(f"{RESULTS}/{name}", b"x")
        assert home.places(path) == [], name


def test_a_side_file_can_be_switched_off_as_a_whole_and_by_source(tmp_path: Path) -> None:
    """`side_files = false` leaves no root and no unit of side files; what was captured can still be read again."""
    file, environ = tmp_path / "config.toml", {"HOME": str(tmp_path)}
    path = f"{tmp_path}/.claude/file-history"
    relative = f"-home/{SESSION}/tool-results/x.txt"
    for text, on in (("", True), ("side_files = false", False), ("[sources.claude-code]\nside_files = false", False)):
        file.write_text(text)
        config = load_valid(str(file), environ).config
        roots = [(source, root) for source, root in find_roots(config, environ) if source.tool == "claude-code"]
        projects = next((source, root) for source, root in roots if root.path == f"{tmp_path}/.claude/projects")
        assert (path in [root.path for _, root in roots]) is on
        assert (find_unit(*projects, relative) is not None) is on
        dormant = [root.path for source, root in find_side_roots(config, environ) if source.tool == "claude-code"]
        assert (path in dormant) is not on


def test_reading_whole_and_in_steps_gives_the_same_pieces(tmp_path: Path) -> None:
    """A piece depends only on its offset and the bytes of the file, so a restart continues with the same ones."""
    path = tmp_path / "file"
    path.write_bytes(random.Random(5).randbytes(2 * CHUNK + 5000))
    descriptor = os.open(path, os.O_RDONLY)
    whole = list(FileBytes(descriptor, Digest(1)).chunks(0))
    again = [next(FileBytes(descriptor, Digest(1)).chunks(chunk.offset)) for chunk in whole]
    os.close(descriptor)
    assert whole == again
    assert [len(chunk.before) for chunk in whole] == [0, CONTEXT, CONTEXT]
    assert b"".join(chunk.data for chunk in whole) == path.read_bytes()


QWEN = "0198c0de-0000-7000-8000-000000000002"


def qwen(number: int, text: str) -> dict:
    """Make a tool's result as Qwen Code 0.24 writes it."""
    return {
        "uuid": f"0000{number:04}-0000-4000-8000-000000000000",
        "parentUuid": None,
        "sessionId": QWEN,
        "timestamp": "2026-09-01T10:00:00.000Z",
        "type": "user",
        "cwd": "/home/dev/project",
        "version": "0.24.4",
        "message": {"role": "user", "parts": [{"text": text}]},
    }


def test_a_side_file_belongs_to_the_session_that_mentions_it(home: DaemonHarness) -> None:
    """Qwen Code's outputs are in a directory of the project; only the transcript says whose they are."""
    folder = f".qwen/tmp/{'9f' * 32}"
    one = home.write(f"{folder}/run_shell_command_1a2b.output", b"all 30,000 lines\n")
    two = home.write(f"{folder}/run_shell_command_3c4d.output", b"of a session that is gone\n")
    assert home.ingest(one) == home.ingest(two) == [Outcome(sessionless=True)]
    chat = home.write(
        f".qwen/projects/-home-dev-project/chats/{QWEN}.jsonl",
        qwen(1, "hello"),
        qwen(2, f"The full output has been saved to: /home/dev/{folder}/run_shell_command_1a2b.output"),
    )
    assert home.ingest(chat)[0].mentions == {"run_shell_command_1a2b.output"}
    assert home.ingest(two) == [Outcome(sessionless=True)]
    home.ingest(one)
    home.settle()
    assert home.held(QWEN, "outputs/run_shell_command_1a2b.output") == b"all 30,000 lines\n"


def test_opencode_names_its_outputs_in_the_part_of_the_tool() -> None:
    """The name is in the text for the model, and in the metadata of the part."""
    source = next(source for source in find_sources() if source.tool == "opencode")
    state = {"status": "completed", "metadata": {"truncated": True, "outputPath": "/h/opencode/tool-output/tool_01ab"}}
    part = {"id": "prt_1", "messageID": "msg_1", "sessionID": "ses_1", "type": "tool", "state": state}
    entry = source.decode(msgspec.json.encode(part), {})
    assert entry is not None
    assert entry.mentions == ("tool_01ab",)


def test_a_secret_in_a_binary_file_is_masked_and_nothing_else() -> None:
    """The metadata of an image or the strings of a program may hold one, wherever the file is cut."""
    redactor = Redactor(Policy())
    noise = random.Random(6).randbytes(300_000)
    data = noise[:100_000] + b"\0Comment\0" + TOKEN + b"\0" + noise[100_000:]
    masked = redactor.mask_any(data)
    (finding,) = masked.findings
    assert data[finding.start : finding.start + finding.length] == TOKEN
    assert len(masked.data) == len(data)
    changed = [number for number, (before, after) in enumerate(zip(data, masked.data, strict=True)) if before != after]
    assert finding.start <= changed[0]
    assert changed[-1] < finding.start + finding.length
    pieces = b"".join(part.data for part in redactor.mask_pieces([data[:100_020], data[100_020:]]))
    assert pieces == masked.data


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_not_masked(seed: int) -> None:
    """Random bytes look like the beginning of a secret in thousands of places."""
    data = random.Random(seed).randbytes(1 << 20)
    assert Redactor(Policy()).mask_any(data).data is data


def test_the_copy_of_the_archive_has_side_files_with_their_types(tmp_path: Path) -> None:
    """An endpoint that is configured later gets the images of sessions that the tool has deleted."""
    with ExitStack() as stack:
        world = World(tmp_path, stack)
        harness, image = world.harness, png(7)
        paths = [
            harness.write(CLAUDE, claude(SESSION, 1)),
            harness.write(f".claude/image-cache/{SESSION}/1.png", image),
            harness.write(f"{RESULTS}/toolu_01.txt", b"no newline"),
        ]
        harness.settle()
        for path in paths:
            os.unlink(path)
        harness.settle()
        world.configure("first")
        harness.settle()
        streams = harness.get(f"/v1/sessions/{harness.machine_id}/{SESSION}/streams").json()["streams"]
        types = {stream["name"]: stream["media_type"] for stream in streams}
        assert types == {"main": "application/x-ndjson", "image-cache/1.png": "image/png", NAME: "text/plain"}
        assert harness.held(SESSION, "image-cache/1.png") == image
        assert harness.held(SESSION, NAME) == b"no newline"
        assert harness.spool.safety.total(harness.address).acknowledged == 1


def test_a_new_rule_masks_what_waits_across_its_pieces(home: DaemonHarness) -> None:
    """The queue has pieces of 1 MiB, and the end of one may lie inside a secret."""
    home.write(CLAUDE, claude(SESSION, 1))
    before = b"all is well here\n" * (CHUNK // 17 - 1)
    text = before + b" " * (CHUNK - len(before) - 20) + TOKEN + b"\n" + before
    home.write(f"{RESULTS}/toolu_01.txt", text)
    home.scan()
    redacting(home)
    home.settle()
    held = home.held(SESSION, NAME)
    assert (len(held), TOKEN[8:-8] in held) == (len(text), False)
    assert held.startswith(before)


def test_a_file_that_is_rewritten_in_place_ends_as_it_is(home: DaemonHarness) -> None:
    """The same holds if only its middle changes, and neither its size nor its beginning."""
    redacting(home)
    home.write(CLAUDE, claude(SESSION, 1))
    first, second = random.Random(8).randbytes(3 * CHUNK), random.Random(9).randbytes(10)
    path = home.write(f"{RESULTS}/toolu_01.txt", first)
    home.settle()
    with open(path, "r+b") as file:
        file.seek(2 * CHUNK + 5)
        file.write(second)
    home.settle()
    held = home.held(SESSION, NAME)
    assert held == first[: 2 * CHUNK + 5] + second + first[2 * CHUNK + 15 :]
    assert [each["keep"] for each in generations(home, NAME)] == [0, CHUNK]


def test_a_scan_for_secrets_leaves_out_side_files_of_excluded_sessions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reports what would be sent, and names the file."""
    folder = tmp_path / f".claude/projects/-home-dev-project/{SESSION}"
    (folder / "tool-results").mkdir(parents=True)
    folder.with_suffix(".jsonl").write_text(json.dumps(claude(SESSION, 1)) + "\n")
    (folder / "tool-results/toolu_01.txt").write_bytes(b"token: " + TOKEN + b"\n")
    environ = {"HOME": str(tmp_path)}
    found = []
    for exclude in ("[]", '["/home/dev/project"]'):
        assert main(["redact", "scan", "--all", "--json"], {**environ, "SESSIOND_EXCLUDE": exclude}) == 0
        found.append("toolu_01.txt" in capsys.readouterr().out)
    assert found == [True, False]


def test_files_that_were_cut_after_the_spool_was_lost_replace_what_the_endpoint_has(home: DaemonHarness) -> None:
    """The endpoint is known when they are captured, and has their bytes already, but more of them."""
    transcript = home.write(CLAUDE, *(claude(SESSION, number) for number in range(4)))
    output = home.write(f"{RESULTS}/toolu_01.txt", b"one line\nand another one\n")
    home.settle()
    home.close()
    for name in os.listdir(home.state):
        if name.startswith("spool.db"):
            os.unlink(os.path.join(home.state, name))
    home.open()
    other = "6" + SESSION[1:]
    home.ingest(home.write(CLAUDE.replace(SESSION, other), claude(other, 1)))
    while home.push().more:
        pass
    os.truncate(transcript, Path(transcript).read_bytes().index(b"\n") + 1)
    os.truncate(output, len(b"one line\n"))
    home.settle()
    assert home.held(SESSION) == Path(transcript).read_bytes()
    assert home.held(SESSION, NAME) == Path(output).read_bytes()
    assert home.spool.stats.totals().acknowledged == 2
