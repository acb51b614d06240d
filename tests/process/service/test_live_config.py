"""Edits of the configuration while a real daemon runs: applied within a second, or refused with the reason."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from private_manager import until

from sessiond import pause, state
from sessiond.config import Endpoint, load
from sessiond.daemon.config_watch import EMPTY_QUIET
from sessiond.daemon.daemon_run import DaemonRun, Host
from sessiond.daemon.notify import ServiceNotifier
from sessiond.daemon.settings import resolve_settings
from sessiond.endpoint.server import Running, running
from sessiond.errors import ConfigError
from sessiond.spool import Spool, health
from support.harness import CLAUDE, SESSION, claude, encode
from support.program import Program
from support.rules_cache import put_rules
from support.sample_tree import build

TOKEN, OTHER_TOKEN = "token-of-the-first", "token-of-the-other"


class Daemon:
    """A daemon as a process, with its config and its log."""

    def __init__(self, base: Path, config: str, program: str | None = None, old: Sequence[str] = ()) -> None:
        """Start it. `program` is Python that runs instead of the command.

        `old` are sessions that were written two days ago, each more than a batch of the slowest line.
        """
        self.home, self.state, self.config = base / "home", base / "state", base / "conf" / "config.toml"
        self.home.mkdir()
        put_rules(str(self.state))
        self.config.parent.mkdir()
        self.config.write_text(config)
        for identity in old:
            path = self.home / CLAUDE.replace(SESSION, identity)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(claude(identity, 1, text=os.urandom(40_000).hex())))
            os.utime(path, (time.time() - 200_000, time.time() - 200_000))
        environ = {
            "HOME": str(self.home),
            "PATH": os.defpath,
            "SESSIOND_STATE_DIR": str(self.state),
        }
        self._log = open(base / "log", "w+b")  # noqa: SIM115 - as long as the daemon
        words = ["run", "--config", str(self.config)]
        self.process = Program(words, environ, code=program or "", stderr=self._log)
        until(lambda: self.events("daemon.started") or self.process.poll() is not None)
        assert self.process.poll() is None

    def events(self, name: str) -> list[dict[str, Any]]:
        self._log.seek(0)
        lines = [json.loads(line) for line in self._log.read().split(b"\n")[:-1] if line.startswith(b"{")]
        return [line for line in lines if line["event"] == name]

    def write(self, *numbers: int) -> bytes:
        """Append lines as the tool; return the file's content."""
        path = self.home / CLAUDE
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(b"".join(encode(claude(SESSION, number)) for number in numbers))
        return path.read_bytes()

    def refusal(self) -> str | None:
        spool = Spool(str(self.state))
        try:
            return spool.meta(health.CONFIG)
        finally:
            spool.close()

    def stop(self) -> None:
        self.process.terminate()
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            code = None
        self._log.seek(0)
        assert code == 0, f"exit code {code}: {self._log.read().decode()}"
        self._log.close()


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Running]:
    with running(str(tmp_path / "endpoint"), token=TOKEN) as made:
        yield made


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Running]:
    with running(str(tmp_path / "other"), token=OTHER_TOKEN) as made:
        yield made


def settings(endpoint: Running, tmp_path: Path, more: str = "") -> str:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(endpoint.token)
    return f'machine_id = "box"\n{more}[endpoint]\nurl = "{endpoint.url}"\ntoken_file = "{token}"\n'


@pytest.fixture
def daemon(tmp_path: Path, endpoint: Running) -> Iterator[Daemon]:
    made = Daemon(tmp_path, settings(endpoint, tmp_path))
    yield made
    made.stop()


def held(endpoint: Running, identity: str = SESSION) -> bytes:
    headers = {"Authorization": f"Bearer {endpoint.token}"}
    answer = httpx.get(
        f"{endpoint.url}/v1/sessions/box/{identity}/streams/main", headers=headers, verify=False, timeout=60
    )
    return answer.content if answer.status_code == 200 else b""


def test_another_endpoint_is_taken_over_within_a_second_and_gets_all(
    daemon: Daemon, endpoint: Running, other: Running, tmp_path: Path
) -> None:
    written = daemon.write(*range(20))
    until(lambda: held(endpoint) == written)
    (tmp_path / "token2").touch(0o600)
    (tmp_path / "token2").write_text(OTHER_TOKEN)
    text = f'machine_id = "box"\n[endpoint]\nurl = "{other.url}"\ntoken_file = "{tmp_path}/token2"\n'
    began = time.monotonic()
    daemon.config.write_text(text)
    until(lambda: daemon.events("config.reloaded"))
    assert time.monotonic() - began < 5  # said to be a second; a loaded machine may take longer
    written = daemon.write(*range(20, 25))
    until(lambda: held(other) == written)
    assert len(daemon.events("daemon.started")) == 1
    assert not daemon.events("config.refused")


def test_limits_of_the_backlog_are_lifted_without_a_restart(tmp_path: Path, endpoint: Running) -> None:
    """At one byte a second an old session would take hours. A new one is pushed at once."""
    old = [f"5f1d7c1e-0000-4000-8000-00000000000{number}" for number in range(2, 5)]
    text = settings(endpoint, tmp_path)
    made = Daemon(tmp_path, text + "[backlog]\nmax_upload = 1\n", old=old)
    try:
        written = made.write(1)
        until(lambda: held(endpoint) == written)
        # The first batch of the backlog is free: it is what comes behind that waits.
        waiting = [each for each in old if not held(endpoint, each)]
        assert waiting
        made.config.write_text(text)
        until(lambda: all(held(endpoint, each) for each in waiting))
        assert [event["restart"] for event in made.events("config.reloaded")] == [False]
    finally:
        made.stop()


def test_backfill_picks_up_the_rest_when_it_is_changed(tmp_path: Path, endpoint: Running) -> None:
    old = "5f1d7c1e-0000-4000-8000-000000000002"
    text = settings(endpoint, tmp_path)
    made = Daemon(tmp_path, 'backfill = "none"\n' + text, old=[old])
    try:
        written = made.write(1)
        until(lambda: held(endpoint) == written)
        assert not held(endpoint, old)
        made.config.write_text('backfill = "1d"\n' + text)
        until(lambda: len(made.events("config.reloaded")) == 1)
        made.config.write_text(text)
        until(lambda: held(endpoint, old))
        assert not made.events("config.refused")
    finally:
        made.stop()


def test_a_file_that_is_being_written_switches_nothing(daemon: Daemon, endpoint: Running) -> None:
    """An editor truncates the file first: an empty configuration would mean the built-in archive."""
    text, began = daemon.config.read_text(), datetime.now(UTC)
    with open(daemon.config, "w") as file:
        time.sleep(0.8)  # the daemon's quiet time goes by; there is no event to wait for
        file.write("# started again\n" + text)
    until(lambda: daemon.events("config.reloaded"))
    assert [event["restart"] for event in daemon.events("config.reloaded")] == [False]
    assert not daemon.events("endpoint.started")
    # On a busy machine we may have taken longer to write it than is waited for.
    refused = [datetime.fromisoformat(event["timestamp"]) for event in daemon.events("config.refused")]
    assert all(at - began >= timedelta(seconds=EMPTY_QUIET) for at in refused)
    os.rename(daemon.config, f"{daemon.config}~")
    until(lambda: daemon.events("config.refused"))
    until(lambda: "is empty or was removed" in (daemon.refusal() or ""))
    daemon.config.write_text(text)
    until(lambda: daemon.refusal() is None)
    written = daemon.write(1)
    until(lambda: held(endpoint) == written)
    assert not daemon.events("endpoint.started")


def test_an_invalid_edit_keeps_the_last_good_one_and_says_where(daemon: Daemon, endpoint: Running) -> None:
    """L4, C2: the log and `status` have the file, the line and the key."""
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace("machine_id", "machin_id"))
    until(lambda: daemon.events("config.refused"))
    event = daemon.events("config.refused")[0]
    assert (event["file"], event["line"], event["key"]) == (str(daemon.config), 1, "machin_id")
    assert event["hint"] == 'did you mean "machine_id"?'
    until(lambda: f"{daemon.config}:1: machin_id" in (daemon.refusal() or ""))
    written = daemon.write(1)
    until(lambda: held(endpoint) == written)
    daemon.config.write_text(good)
    until(lambda: daemon.refusal() is None)


EDITED_MEANWHILE = """
import os, sys
from sessiond import daemon
from sessiond.config import load

file = os.path.join(os.path.dirname(os.environ["HOME"]), "conf", "config.toml")
loaded = load(file, os.environ)
with open(file, "a") as config:
    config.write('[log]\\nlevel = "debug"\\n')
sys.exit(daemon.run(loaded, os.environ, file, ready=lambda url: None))
"""
"""An edit after the configuration was read and before anything is watched."""


def test_an_edit_while_it_starts_is_taken_over(tmp_path: Path, endpoint: Running) -> None:
    daemon = Daemon(tmp_path, settings(endpoint, tmp_path), EDITED_MEANWHILE)
    until(lambda: daemon.events("config.reloaded"))
    daemon.write(1)
    until(lambda: daemon.events("ingest.captured"))
    daemon.stop()


EDITED_AS_IT_IS_READ = """
import os, sys, threading
from sessiond import daemon
from sessiond.config import load
from sessiond.daemon import daemon_run

file = os.path.join(os.path.dirname(os.environ["HOME"]), "conf", "config.toml")
loaded = load(file, os.environ)
text = open(file).read()
reload_settings = daemon_run.reload_settings

def finish():
    with open(file, "w") as config:
        config.write(text + '[log]\\nlevel = "debug"\\n')

def read_half_written(*args):
    daemon_run.reload_settings = reload_settings
    open(file, "w").write(BEGUN)
    threading.Timer(0.1, finish).start()
    return reload_settings(*args)

daemon_run.reload_settings = read_half_written
sys.exit(daemon.run(loaded, os.environ, file, ready=lambda url: None))
"""
"""An edit that begins when an earlier one is finished, and is read half written."""


@pytest.mark.parametrize("begun", ["", "[endpoi"])
def test_an_edit_that_is_read_half_written_is_not_refused(tmp_path: Path, endpoint: Running, begun: str) -> None:
    program = EDITED_AS_IT_IS_READ.replace("BEGUN", repr(begun))
    daemon = Daemon(tmp_path, settings(endpoint, tmp_path), program)
    until(lambda: daemon.events("config.reloaded"))
    assert not daemon.events("config.refused")
    daemon.write(1)
    until(lambda: daemon.events("ingest.captured"))
    daemon.stop()


def test_a_start_without_an_edit_takes_nothing_over(daemon: Daemon, endpoint: Running) -> None:
    written = daemon.write(1)
    until(lambda: held(endpoint) == written)
    daemon.process.send_signal(1)
    until(lambda: daemon.events("config.reloaded"))
    assert len(daemon.events("config.reloaded")) == 1


def test_certificates_that_can_not_be_read_keep_the_last_good_one(daemon: Daemon, endpoint: Running) -> None:
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace("http://", "https://") + 'ca_file = "/nowhere/ca.pem"\n')
    until(lambda: daemon.events("config.refused"))
    event = daemon.events("config.refused")[0]
    assert (event["key"], event["reason"]) == (
        "endpoint.ca_file",
        "endpoint.ca_file: /nowhere/ca.pem can't be used: No such file or directory",
    )
    written = daemon.write(1)
    until(lambda: held(endpoint) == written)
    until(lambda: "/nowhere/ca.pem" in (daemon.refusal() or ""))
    daemon.config.write_text(good)
    until(lambda: daemon.refusal() is None)


def test_a_life_that_can_not_begin_leaves_nothing_open(tmp_path: Path) -> None:
    """Resources that it has opened (the spool, a child process) would be in the way of the next run."""
    environ = {"HOME": str(tmp_path), "SESSIOND_STATE_DIR": str(tmp_path / "state")}
    state.prepare(str(tmp_path / "state"))
    orders = resolve_settings(load(os.devnull, environ), environ)
    endpoint = Endpoint(url="https://sync.example.org", ca_file="/nowhere/ca.pem")
    config = msgspec.structs.replace(orders.config, endpoint=endpoint)
    orders = msgspec.structs.replace(orders, loaded=msgspec.structs.replace(orders.loaded, config=config))
    lock = state.Lock(str(tmp_path / "state"))
    host = Host(environ=environ, file=None, lock=lock, messages=queue.SimpleQueue(), notify=ServiceNotifier({}))
    before = set(threading.enumerate())
    with pytest.raises(ConfigError):
        DaemonRun(host, orders)
    lock.release()
    opened = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if _is_open(number)]
    assert [path for path in opened if path.startswith(str(tmp_path))] == []
    assert set(threading.enumerate()) <= before, "a thread of an earlier test may end meanwhile"


def _is_open(number: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")


def test_a_level_or_a_comment_restarts_nothing(daemon: Daemon, endpoint: Running) -> None:
    daemon.config.write_text("# a comment\n" + daemon.config.read_text())
    until(lambda: len(daemon.events("config.reloaded")) == 1)
    assert not daemon.events("ingest.captured")
    daemon.config.write_text(daemon.config.read_text() + '[log]\nlevel = "debug"\n')
    until(lambda: len(daemon.events("config.reloaded")) == 2)
    assert [event["restart"] for event in daemon.events("config.reloaded")] == [False, False]
    daemon.write(1)
    until(lambda: daemon.events("ingest.captured"))


def test_a_new_token_ends_the_pause_of_a_refused_upload(tmp_path: Path, endpoint: Running) -> None:
    """Only the file of the token changes."""
    config = settings(endpoint, tmp_path)
    (tmp_path / "token").write_text("a-wrong-token")
    daemon = Daemon(tmp_path, config)
    written = daemon.write(1)
    until(lambda: daemon.events("upload.failed"))
    (tmp_path / "token").write_text(TOKEN)
    until(lambda: held(endpoint) == written)
    assert daemon.events("upload.resumed")
    daemon.stop()


def test_a_source_that_is_switched_on_is_read_from_its_beginning(tmp_path: Path, endpoint: Running) -> None:
    config = settings(endpoint, tmp_path)
    daemon = Daemon(tmp_path, config + "[sources.claude-code]\nenabled = false\n")
    written = daemon.write(*range(10))
    parts = daemon.config.parent / "config.d"
    parts.mkdir()
    (parts / "50-set.toml").write_text("[sources.claude-code]\nenabled = true\n")
    until(lambda: held(endpoint) == written)
    assert [event["restart"] for event in daemon.events("config.reloaded")] == [True]
    daemon.stop()


def test_what_is_odd_about_an_edit_is_logged(daemon: Daemon) -> None:
    daemon.config.write_text(daemon.config.read_text() + "\n")
    daemon.config.chmod(0o666)
    until(lambda: daemon.events("config.doubted"))
    assert "every user of this machine can change" in daemon.events("config.doubted")[0]["reason"]


def test_a_pause_ends_by_itself_and_nothing_is_pushed_before(daemon: Daemon, endpoint: Running) -> None:
    daemon.write(1)
    until(lambda: held(endpoint))
    end = time.time_ns() // 1_000_000 + 3000
    pause.write(str(daemon.state), pause.Paused(pushing=end))
    daemon.process.send_signal(1)
    until(lambda: daemon.events("config.reloaded"))
    written = daemon.write(2, 3)
    until(lambda: held(endpoint) == written)
    assert time.time_ns() // 1_000_000 >= end


def test_a_project_that_crush_learns_of_is_watched_at_once(endpoint: Running, tmp_path: Path) -> None:
    """Its list of projects names roots that did not exist at the start, and is enough to find them."""
    daemon = Daemon(tmp_path, settings(endpoint, tmp_path))
    try:
        project = daemon.home / "loom"
        shutil.move(Path(build("crush/0.90", tmp_path / "made")) / "work" / "loom", project)
        listed = daemon.home / ".local" / "share" / "crush" / "projects.json"
        listed.parent.mkdir(parents=True)
        listed.write_text(json.dumps({"projects": [{"path": str(project), "data_dir": ".crush"}]}))

        def arrived() -> bool:
            headers = {"Authorization": f"Bearer {endpoint.token}"}
            answer = httpx.get(
                f"{endpoint.url}/v1/sessions", headers=headers, params={"limit": 50}, verify=False, timeout=60
            ).json()
            return "crush" in {item["record"]["tool"] for item in answer["sessions"]}

        until(arrived)
    finally:
        daemon.stop()
