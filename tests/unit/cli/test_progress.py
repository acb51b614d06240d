"""The progress of the backlog: in `status`, and as a bar on a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyte
import pytest
from rich.progress import Progress as RichProgress

from sessiond.cli.bar import Above, Bar, make_bar, update
from sessiond.cli.status_screen import screen
from sessiond.config import Config
from sessiond.daemon.pusher import Pusher, Target
from sessiond.daemon.resources import Resources, open_resources
from sessiond.daemon.throttle import PUSHING, Throttle
from sessiond.spool.archive_counts import ArchiveCounts
from sessiond.spool.health import PACE_MS, CaptureHealth, EndpointHealth
from sessiond.spool.stats import Totals, Waiting
from sessiond.status import read_status
from sessiond.status.progress import Progress, measure
from support.capture import DAY, session
from support.harness import TOKEN, DaemonHarness, claude, daemon_harness
from support.program import SOURCE, Program
from support.rules_cache import put_rules

MB = 1_000_000
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FOUND = CaptureHealth(pid=1, discovered={"codex": 50, "pi": 10}, found_bytes=100 * MB)
TOTALS = Totals(captured=40, ongoing=0, acknowledged=20, oldest_ms=None, unprotected=0, lost=0)
NOTHING = Waiting(sessions=0, segments=0, bytes=0, oldest_ms=None, parked=0, behind=0, behind_bytes=0)


def progress(endpoint: EndpointHealth | None = None, *, unsent: int = 0, **more: object) -> Progress:
    made = measure(
        FOUND.replace(**more),
        endpoint or EndpointHealth(),
        TOTALS.replace(unsent_bytes=unsent),
        NOTHING,
    )
    assert made is not None
    return made


# The numbers


def test_progress_counts_read_and_acknowledged_bytes_separately() -> None:
    made = progress(backlog=20, backlog_bytes=30 * MB, left_out=10, left_out_bytes=15 * MB, unsent=25 * MB)
    assert (made.files, made.bytes) == (50, 85 * MB)
    assert (made.captured_files, made.captured_bytes) == (30, 55 * MB)
    assert made.acknowledged_bytes == 30 * MB
    assert not made.done


def test_it_is_done_with_the_last_byte_and_the_last_record() -> None:
    assert progress().done
    assert not progress(backlog=1).done
    assert not progress(unsent=1).done
    one = NOTHING.replace(sessions=1)
    made = measure(FOUND, EndpointHealth(), TOTALS, one)
    assert made is not None and not made.done


def test_what_only_the_archive_has_is_part_of_the_whole_while_it_is_copied() -> None:
    """The tools' files do not include it: without it, the bar would be full too early, or empty at the start."""
    archive = ArchiveCounts(listed=True, sessions=9, bytes=80 * MB, pending=6, only_bytes=60 * MB)
    totals = TOTALS.replace(unsent_bytes=35 * MB, archived_bytes=30 * MB)
    made = measure(
        FOUND, EndpointHealth(), totals.replace(archive=archive.replace(only_pending_bytes=40 * MB)), NOTHING
    )
    assert made is not None
    assert (made.bytes, made.captured_bytes, made.acknowledged_bytes) == (160 * MB, 160 * MB, 115 * MB)
    assert not made.done


def test_before_the_first_look_nothing_is_known() -> None:
    assert measure(CaptureHealth(pid=1), EndpointHealth(), TOTALS, NOTHING) is None


def test_the_time_left_is_what_is_left_at_the_rate_of_the_last_minute() -> None:
    """There is no estimate while the backlog waits or the endpoint fails."""
    paced = EndpointHealth(pace_ms=1_000, last_ack_ms=21_000, pace_bytes=40 * MB)
    made = progress(paced, unsent=30 * MB)
    assert (made.rate, made.seconds_left) == (2 * MB, 15.0)
    assert progress(paced, unsent=30 * MB, waits="on battery").seconds_left is None
    failing = paced.replace(failing_since_ms=22_000)
    assert progress(failing, unsent=30 * MB).seconds_left is None
    assert progress(EndpointHealth(pace_ms=1_000, last_ack_ms=1_000), unsent=1).rate is None


def test_recent_pushes_count_more_for_the_pace(tmp_path: Path) -> None:
    """It ends after a minute without a push, and older pushes count less and less."""
    (tmp_path / "state").mkdir(mode=0o700)
    put_rules(str(tmp_path / "state"))
    resources: Resources = open_resources(Config(state_dir=str(tmp_path / "state")), {"HOME": str(tmp_path)})
    made = Pusher(resources, Target("http://127.0.0.1:9", None), Throttle(PUSHING))

    def ack(at_ms: int, count: int) -> EndpointHealth:
        made.state.health = EndpointHealth(last_ack_ms=at_ms).paced(made.state.health, count)
        return made.state.health

    try:
        assert (ack(10_000_000, 5).pace_ms, ack(10_001_000, 7).pace_bytes) == (10_000_000, 7)
        for second in range(2, 600):
            last = ack(10_000_000 + second * 1000, 1000)
        assert last.pace_ms is not None and last.last_ack_ms is not None
        span = last.last_ack_ms - last.pace_ms
        assert span <= PACE_MS
        assert 900 < last.pace_bytes / span * 1000 < 1100
        assert (ack(99_000_000, 5).pace_ms, made.state.health.pace_bytes) == (99_000_000, 0)
        assert ack(98_000_000, 5).pace_ms == 98_000_000  # the clock was set back
    finally:
        made.close()
        resources.close()


# In `status`


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (progress(), None),
        (progress(unsent=900_000), None),
        (progress(unsent=40 * MB), "60 MB of 100 MB acknowledged, 100 MB captured"),
        (
            progress(EndpointHealth(pace_ms=1, last_ack_ms=20_001, pace_bytes=40 * MB), unsent=40 * MB),
            "60 MB of 100 MB acknowledged, 100 MB captured; 2.0 MB/s, 20 s left",
        ),
        (
            progress(backlog=1, backlog_bytes=5000, waits="on battery"),
            "paused: on battery; 100 MB of 100 MB acknowledged, 100 MB captured",
        ),
    ],
)
def test_status_has_a_line_while_there_is_a_backlog(tmp_path: Path, made: Progress, line: str | None) -> None:
    """The line fits in 80 columns."""
    status = read_status(os.devnull, {"HOME": str(tmp_path), "SESSIOND_STATE_DIR": str(tmp_path / "state")})
    status = status.replace(totals=TOTALS, outbox=NOTHING, progress=made)
    lines = [text for text in screen(status).splitlines() if text.startswith("backlog")]
    assert lines == ([] if line is None else [f"backlog       {line}"])
    assert all(len(text) <= 80 for text in lines)


# As a bar


@contextmanager
def terminal(*command: str, environ: dict[str, str]) -> Iterator[tuple[Program, Callable[[str], str]]]:
    """Run a command on a terminal of 80 columns; yield it, and what waits until a text was drawn."""
    ours, theirs = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = Program(command, environ, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    drawn = bytearray()

    def until(text: str) -> str:
        end = time.monotonic() + 60
        while text.encode() not in drawn:
            assert time.monotonic() < end, drawn.decode()
            try:
                drawn.extend(os.read(ours, 65536))
            except OSError:  # it has ended
                break
        assert text.encode() in drawn, drawn.decode()
        return drawn.decode()

    try:
        yield process, until
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    """Return a home with four old sessions that can't be compressed to less than 40 kB each."""
    with daemon_harness(tmp_path) as made:
        for number in range(1, 5):
            path = made.write(
                f".claude/projects/-home-dev-project/{session(number)}.jsonl",
                claude(session(number), 1, text=os.urandom(40_000).hex()),
            )
            os.utime(path, (time.time() - DAY, time.time() - DAY))
        yield made


def environ(harness: DaemonHarness, **more: str) -> dict[str, str]:
    put_rules(harness.state)
    return {
        "HOME": harness.home,
        "TERM": "xterm",
        "PATH": os.defpath,
        "PYTHONPATH": SOURCE,
        "SESSIOND_STATE_DIR": harness.state,
        "SESSIOND_CONFIG": os.devnull,
        "SESSIOND_ENDPOINT__URL": harness.endpoint.url,
        "SESSIOND_TOKEN": TOKEN,
        "SESSIOND_BACKLOG__ON_BATTERY": "continue",
        "SESSIOND_BACKLOG__ON_METERED": "continue",
        **more,
    }


def lines_of(drawn: str) -> list[str]:
    """Return what a user saw: each state of the last line as a line."""
    return [line for line in re.split(r"[\r\n]+", ESCAPES.sub("", drawn)) if line]


def test_the_first_start_in_a_terminal_draws_a_bar(harness: DaemonHarness) -> None:
    """Log lines appear above it, uncut. When everything is acknowledged, one line says so and the bar disappears."""
    with terminal("run", environ=environ(harness, SESSIOND_BACKLOG__MAX_UPLOAD="40kB/s")) as (process, until):
        drawn = until("captured and acknowledged")
        process.send_signal(signal.SIGINT)
        drawn = until("daemon.stopped")
        assert process.wait(30) == 0
    seen = lines_of(drawn)
    bars = [line for line in seen if re.match(r"(reading|pushing) [━╸╺ ]+ ", line)]
    assert bars
    assert all(len(line) <= 80 for line in bars)
    assert any(re.search(r" of 32[0-9] kB 4 sessions", line) for line in bars)
    assert any(re.search(r"kB/s \d+ s left$", line) for line in bars)
    assert (
        sum(
            re.match(r"4 sessions \(32[0-9] kB\) captured and acknowledged in \d+ s\.$", line) is not None
            for line in seen
        )
        == 1
    )
    others = [line for line in seen if line not in bars]
    told = ("2", "4 sessions", "sessiond is running", "shows its state.", "Press Ctrl+C", "^C")
    assert all(line.startswith(told) for line in others), others


def test_sync_draws_it_too_and_ends_with_its_answer(harness: DaemonHarness) -> None:
    """The bar works on a plain terminal without colours."""
    with terminal("sync", environ=environ(harness, NO_COLOR="1")) as (process, until):
        drawn = until("4 sessions, all acknowledged")
        assert process.wait(30) == 0
    assert "\x1b[38" not in drawn
    assert lines_of(drawn)[-1] == "4 sessions, all acknowledged"


@contextmanager
def drawn_bar(columns: int) -> Iterator[tuple[RichProgress, Above, Callable[[], str]]]:
    """Yield a bar, what prints above it, and a function that returns what was written since its last call."""
    stream = io.StringIO(newline="\r\n")

    def written() -> str:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return text

    yield make_bar(stream, colors=True, width=columns), Above(stream), written


@pytest.mark.parametrize("columns", [80, 120])
def test_what_is_printed_meanwhile_appears_above_the_bar(columns: int) -> None:
    """A line longer than the terminal stays one line, and half a line waits for its end."""
    screen = pyte.Screen(columns, 10)
    terminal = pyte.Stream(screen)
    with drawn_bar(columns) as (bar, above, written):
        above.write("before\n")
        update(bar, progress(unsent=9 * MB), failing=False)
        above.switch(bar)
        above.write("a line\n")
        above.write("half")
        terminal.feed(written())
        assert screen.display[0].startswith("before")
        assert screen.display[1].startswith("a line")
        assert screen.display[2].startswith("pushing ━")
        assert screen.display[2].rstrip().endswith("91 MB of 100 MB 40 sessions")
        above.write(" of it\n" + "x" * (columns + 5) + "\n")
        terminal.feed(written())
        assert [line.rstrip() for line in screen.display[2:5]] == ["half of it", "x" * columns, "xxxxx"]
        above.write("the end")
        above.switch(None)
        above.end()
        terminal.feed(written())
        assert [line.rstrip() for line in screen.display[5:]] == ["the end", "", "", "", ""]


def test_a_terminal_that_closes_does_not_stop_what_draws_on_it() -> None:
    """A daemon in a closed window must go on; its log is written to a file too."""
    ours, theirs = pty.openpty()
    stream = open(theirs, "w", newline="")  # noqa: SIM115 - closing it fails too
    asked = threading.Event()

    def read() -> tuple[Progress | None, EndpointHealth]:
        asked.set()
        return progress(unsent=9 * MB), EndpointHealth()

    bar = Bar(stream, read, delay=0.0)
    os.close(ours)  # from now on each write fails
    with bar:
        assert asked.wait(60)
        bar._thread.join(60)
        assert not bar._thread.is_alive()
    with suppress(OSError):
        stream.close()


@pytest.mark.parametrize(
    ("made", "failing", "words"),
    [
        (progress(backlog=9, backlog_bytes=9 * MB, waits="on battery"), False, "reading .* paused: on battery$"),
        (progress(unsent=9 * MB), True, "pushing .* 91 MB of 100 MB 40 sessions the endpoint is failing$"),
    ],
)
def test_the_bar_shows_why_nothing_happens(made: Progress, failing: bool, words: str) -> None:
    with drawn_bar(80) as (bar, above, written):
        update(bar, made, failing)
        above.switch(bar)
        line = ESCAPES.sub("", written())
        assert re.match(words, line), line
        assert len(line) <= 80
        above.switch(None)
