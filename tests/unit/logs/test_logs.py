"""The log: its texts, its sinks, and what never gets into it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pty
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sessiond import logs
from sessiond.logs import log, sinks
from support.program import SOURCE


@pytest.fixture(autouse=True)
def quiet_afterwards() -> Iterator[None]:
    """Restore the process's log after the test."""
    with logs.recorded():
        yield
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, sinks._Libraries)]
    log._secrets.clear()
    logs.mask_with(str)
    for handler in list(logging.getLogger("sessiond").handlers):
        logging.getLogger("sessiond").removeHandler(handler)
        handler.close()


class Clock:
    """A clock that is set by the test."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_a_utc_time() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, environ={})
    log.info("upload.acked", sessions=3, bytes=1200, seconds=0.25)
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(line.pop("timestamp")))
    assert line == {"level": "info", "event": "upload.acked", "sessions": 3, "bytes": 1200, "seconds": 0.25}


def test_an_event_is_rendered_once_for_two_sinks(tmp_path: Path) -> None:
    """The rotated file asks for the length of a line before it writes it."""
    rendered: list[object] = []

    def render(_logger: object, _method: str, fields: Mapping[str, object]) -> str:
        rendered.append(fields["event"])
        return str(fields["event"])

    stream, failures = io.StringIO(), sinks.Failures()
    shared = sinks.EventFormatter(render)
    file = sinks.FileSink(str(tmp_path / "log"), failures)
    file.setFormatter(shared)
    logs._start([sinks.StreamSink(stream, shared, failures), file]).info("upload.acked")
    logs._start([]).info("upload.resumed")
    assert rendered == ["upload.acked"]
    assert stream.getvalue() == (tmp_path / "log").read_text() == "upload.acked\n"


def test_only_the_values_of_an_event_are_searched_for_secrets() -> None:
    searched: list[str] = []

    def search(text: str) -> str:
        searched.append(text)
        return text

    logs.mask_with(search)
    logs.configure(stream=io.StringIO(), environ={})
    log.warning("upload.failed", reason="no route")
    assert searched == ["no route"]


def test_nothing_below_a_warning_is_said_before_it_is_configured() -> None:
    code = (
        "import sys; from sessiond.logs import log; log.info('daemon.started', version='1');"
        "print('structlog' in sys.modules); log.warning('spool.filled', free=0)"
    )
    env = {"PYTHONPATH": SOURCE, "PATH": os.defpath}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert json.loads(done.stderr)["event"] == "spool.filled"


def test_the_level_changes_while_it_runs() -> None:
    stream = io.StringIO()
    logs.configure(level="warning", stream=stream, environ={})
    log.info("upload.resumed")
    logs.set_level("debug")
    log.debug("ingest.captured", bytes=1)
    logs.set_level("error")
    log.warning("upload.paused")
    assert [line["event"] for line in lines(stream)] == ["ingest.captured"]


def test_an_unlisted_key_never_reaches_the_log() -> None:
    """An unforeseen key may hold content."""
    stream = io.StringIO()
    logs.configure(stream=stream, environ={})
    log.info("upload.acked", sessions=1, body="what the user said")
    log.info("upload.invented", text="what the user said")
    assert [sorted(line) for line in lines(stream)] == [
        ["event", "level", "sessions", "timestamp"],
        ["event", "level", "timestamp"],
    ]


def test_an_unlisted_event_or_key_fails_a_test_that_records() -> None:
    with logs.recorded() as records:
        log.info("upload.acked", sessions=1)
        with pytest.raises(LookupError, match=r"upload\.acked \['body'\]"):
            log.info("upload.acked", body="x")
        with pytest.raises(LookupError, match=r"upload\.invented"):
            log.info("upload.invented")
    assert [(record["event"], record["sessions"]) for record in records] == [("upload.acked", 1)]


def test_a_secret_is_masked_wherever_it_stands() -> None:
    """S3: it may be in an error's text, in a list, or across the cut of a long text."""
    stream = io.StringIO()
    logs.configure(stream=stream, environ={})
    logs.hide("SENTINEL")
    log.warning("upload.failed", reason=f"{'x' * 996}SENTINEL", endpoint=OSError("bad header: Bearer SENTINEL"))
    log.warning("daemon.started", tools=["a", "SENTINEL"])
    assert "SENT" not in stream.getvalue()
    assert lines(stream)[0]["endpoint"] == "bad header: Bearer ***"


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_file_name_can_not_forge_a_line_or_draw_on_the_terminal(format: logs.Format) -> None:
    """S10: control characters are escaped."""
    stream = io.StringIO()
    logs.configure(format=format, stream=stream, environ={})
    log.warning("ingest.skipped", path="/a\n2026 error daemon.crashed\x1b[2J\udcff\N{RIGHT-TO-LEFT OVERRIDE}")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()


def test_a_failure_that_repeats_is_said_once_and_then_once_a_minute() -> None:
    """X6: numbers may differ, but another cause is another failure. Successes are always logged."""
    clock = Clock()
    with logs.recorded(clock=clock) as records:
        for second in range(0, 150, 10):
            clock.now = second
            log.warning("upload.failed", reason="connection refused", retry_in=second)
            log.info("upload.acked", sessions=1)
        log.warning("upload.failed", reason="timed out")
    failed = [line for line in records if line["event"] == "upload.failed"]
    assert [(line["reason"], line.get("retry_in"), line.get("repeated")) for line in failed] == [
        ("connection refused", 0, None),
        ("connection refused", 60, 5),
        ("connection refused", 120, 5),
        ("timed out", None, None),
    ]
    assert sum(line["event"] == "upload.acked" for line in records) == 15


def test_a_storm_of_different_failures_is_bounded_too() -> None:
    """X6: ten thousand unreadable files are one fault, not ten thousand lines."""
    clock = Clock()
    with logs.recorded(clock=clock) as records:
        for number in range(10_000):
            log.warning("ingest.skipped", path=f"/x/{number}", reason="permission denied")
        assert len(records) == 20
        log.warning("upload.failed", reason="another event is not drowned")
        assert len(records) == 21
        clock.now = 61
        log.warning("ingest.skipped", path="/x/0", reason="permission denied")
    assert records[-1]["repeated"] == 9980


def test_a_terminal_gets_lines_for_people_in_colour_unless_told_not_to() -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:
        for environ in ({"TERM": "xterm"}, {"NO_COLOR": "1"}):
            logs.configure(stream=stream, environ=environ)
            log.warning("upload.paused", reason="the token is refused")
            text = os.read(ours, 4096).decode()
            assert ("\x1b[33m" in text) is ("NO_COLOR" not in environ)
            plain = re.sub(r"\x1b\[\d+m", "", text)
            assert re.fullmatch(
                r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \[warning\] upload\.paused reason="the token is refused"\r\n', plain
            )
    os.close(ours)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, socket.socket]]:
    """Yield a socket in the place of the journal's."""
    monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("journal")
        listener.settimeout(5)
        yield "journal", listener


def test_the_journal_gets_fields_when_it_reads_our_stderr(journal: tuple[str, socket.socket], tmp_path: Path) -> None:
    path, listener = journal
    with open(tmp_path / "stderr", "w") as stream:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        logs.configure(stream=stream, environ=environ, journal=path, file=str(tmp_path / "log" / "file"))
        log.warning("ingest.skipped", tool="codex", path="/a b\nMESSAGE=forged", reason="a link")
    fields = dict(line.split("=", 1) for line in listener.recv(65536).decode().splitlines())
    assert fields == {
        "MESSAGE": r'ingest.skipped tool=codex path="/a b\nMESSAGE=forged" reason="a link"',
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "sessiond",
        "SESSIOND_TOOL": "codex",
        "SESSIOND_PATH": r"/a b\nMESSAGE=forged",
        "SESSIOND_REASON": "a link",
    }
    assert (tmp_path / "stderr").read_text() == ""
    assert not (tmp_path / "log").exists()


def test_an_inherited_journal_variable_does_not_take_a_redirected_stderr(
    journal: tuple[str, socket.socket], tmp_path: Path
) -> None:
    with open(tmp_path / "stderr", "w") as stream:
        assert logs.choose(stream, {"JOURNAL_STREAM": "1:1"}, journal[0]) == "json"


def test_a_journal_that_went_away_costs_lines_and_no_more(journal: tuple[str, socket.socket]) -> None:
    """L5: the process goes on."""
    path, listener = journal
    logs.configure(format="journal", stream=io.StringIO(), environ={}, journal=path)
    listener.close()
    log.info("upload.resumed")
    os.unlink(path)
    log.info("upload.resumed")


def test_without_a_journal_its_format_is_json() -> None:
    stream = io.StringIO()
    logs.configure(format="journal", stream=stream, environ={}, journal="/nowhere/socket")
    log.info("upload.resumed")
    assert lines(stream)[0]["event"] == "upload.resumed"


def test_a_stderr_that_is_closed_or_full_costs_lines_and_no_more(tmp_path: Path) -> None:
    """L5: the log file reports it once."""
    file = tmp_path / "log" / "sessiond.log"
    read, write = os.pipe()
    os.close(read)
    with io.StringIO() as closed:
        logs.configure(format="json", stream=closed, environ={}, file=str(file))
    log.info("upload.resumed")
    broken = os.fdopen(os.dup(write), "w", buffering=1)
    logs.configure(format="json", stream=broken, environ={}, file=str(file))
    log.info("upload.resumed")
    log.info("upload.resumed")
    os.close(write)
    with pytest.raises(BrokenPipeError):
        broken.close()
    assert [(line["event"], line.get("path"), line.get("reason")) for line in read_lines(file)] == [
        ("upload.resumed", None, None),
        ("log.failed", "stderr", "i/o operation on closed file"),
        ("upload.resumed", None, None),
        ("log.failed", "stderr", "broken pipe"),
        ("upload.resumed", None, None),
    ]


def read_lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def put(sink: logging.Handler, **fields: object) -> None:
    """Write an event as the logger does."""
    event = {"timestamp": "t", "level": "info", "event": "upload.acked", **fields}
    sink.handle(logging.makeLogRecord({"msg": event, "_logger": None, "_name": "info"}))


def test_the_file_is_private_and_rotated(tmp_path: Path) -> None:
    """A rotated file has the mode of the first one, for any umask."""
    file = tmp_path / "log" / "sessiond.log"
    before = os.umask(0o002)
    try:
        sink = sinks.FileSink(str(file), sinks.Failures(), size=2000, count=3)
        for number in range(200):
            put(sink, sessions=number)
    finally:
        os.umask(before)
    names = sorted(os.listdir(file.parent))
    assert names == ["sessiond.log", "sessiond.log.1", "sessiond.log.2"]
    assert all((file.parent / name).stat().st_size <= 2000 for name in names)
    assert {(file.parent / name).stat().st_mode & 0o777 for name in names} == {0o600}
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert read_lines(file)[-1]["sessions"] == 199
    sink.close()


def test_a_file_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    file = tmp_path / "sessiond.log"
    file.write_text("")
    file.chmod(0o644)
    sink = sinks.FileSink(str(file), sinks.Failures())
    put(sink)
    assert file.stat().st_mode & 0o777 == 0o600
    sink.close()


def test_a_log_that_was_deleted_is_created_again_at_the_next_rotation(tmp_path: Path) -> None:
    file = tmp_path / "log" / "sessiond.log"
    sink = sinks.FileSink(str(file), sinks.Failures(), size=500, count=3)
    put(sink)
    file.unlink()
    file.parent.rmdir()
    for number in range(20):
        put(sink, sessions=number)
    assert read_lines(file)[-1]["sessions"] == 19
    sink.close()


def test_a_file_that_can_not_be_written_is_reported_once_and_costs_lines_and_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other sink has the report. A link is not followed, and a directory that is no directory is not replaced."""
    (tmp_path / "taken").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path, reason in (("taken/log", "not a directory"), ("link", "too many levels of symbolic links")):
        stream = io.StringIO()
        logs.configure(stream=stream, environ={}, file=str(tmp_path / path))
        log.info("upload.resumed")
        log.info("upload.resumed")
        assert [line["event"] for line in lines(stream)] == ["upload.resumed", "log.failed", "upload.resumed"]
        assert str(lines(stream)[1]["reason"]) in (reason, "file exists")
        assert lines(stream)[1]["path"] == str(tmp_path / path)
    assert not (tmp_path / "elsewhere").exists()
    assert capsys.readouterr() == ("", "")


full_device = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is of Linux")


@full_device
def test_a_full_disk_costs_lines_and_no_more() -> None:
    """The reason is reported under launchd too, where events go to the file only; closing it raises nothing."""
    stream, failures = io.StringIO(), sinks.Failures()
    environ = {"XPC_SERVICE_NAME": "io.sessiond"}
    logs.configure(file="/dev/full", stream=stream, environ=environ, journal="/nowhere")
    for number in range(3):
        log.info("upload.acked", sessions=number)
    assert [(line["event"], line["reason"]) for line in lines(stream)] == [("log.failed", "no space left on device")]
    full = sinks.FileSink("/dev/full", failures)
    put(full)
    full.close()
    assert failures.pop() == ("/dev/full", "no space left on device")
    assert failures.pop() is None


@full_device
def test_two_sinks_that_fail_in_two_threads_do_not_wait_for_each_other() -> None:
    """stderr and the file on the same full disk: each report goes to the other sink, whose lock is held."""
    with open("/dev/full", "w") as stream:
        logs.configure(format="json", stream=stream, environ={}, file="/dev/full")
        threads = [
            threading.Thread(target=lambda: [log.info("upload.resumed") for _ in range(50)], daemon=True)
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def test_warnings_of_libraries_become_events() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, environ={})
    logs.configure(stream=stream, environ={})
    logging.getLogger("httpx").warning("queue is %s\nmore", "full")
    logging.getLogger("httpx").info("started")
    (line,) = lines(stream)
    assert (line["event"], line["library"], line["reason"]) == ("library.warned", "httpx", "queue is full")


def test_under_launchd_only_the_rotated_file_grows(tmp_path: Path) -> None:
    """launchd appends stderr to a file without a limit."""
    stream = io.StringIO()
    file = tmp_path / "log" / "sessiond.log"
    logs.configure(file=str(file), stream=stream, environ={"XPC_SERVICE_NAME": "io.sessiond"}, journal="/nowhere")
    log.info("daemon.stopped", seconds=1)
    assert stream.getvalue() == ""
    assert "daemon.stopped" in file.read_text()


def test_the_daemons_log_is_masked_whatever_redact_says(tmp_path: Path) -> None:
    """Logs are shared: no sink gets a secret from a path or a tool's error, even if nothing is redacted.

    Nor is an event masked again by the stream that masks what commands print.
    """
    from sessiond.cli.masked_stream import MaskedStream
    from sessiond.config import load
    from sessiond.daemon.settings import open_log
    from sessiond.redact.examples import expand

    secret = expand("ghp_<A36>", 1)
    environ = {"HOME": str(tmp_path), "SESSIOND_CONFIG": os.devnull, "SESSIOND_STATE_DIR": str(tmp_path / "state")}
    stderr, masked = io.StringIO(), io.StringIO()
    for redact in ("off", "mask", "hash"):
        with contextlib.redirect_stderr(MaskedStream(stderr, lambda text: text[: masked.write(text)])):
            open_log(load(None, {**environ, "SESSIOND_REDACT": redact, "SESSIOND_LOG__FILE": "true"}).config, environ)
        log.warning("ingest.skipped", tool="codex", path=f"/w/{secret}/{redact}", reason=f"bad token={secret}")
    for written in ((tmp_path / "state" / "log" / "sessiond.log").read_text(), stderr.getvalue()):
        assert written.count("ingest.skipped") == 3
        assert secret[:12] not in written
        assert secret[-8:] not in written
    assert not masked.getvalue()
