"""The code that runs on macOS, as far as a machine without macOS can test it."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from private_manager import until

from sessiond.errors import StateError
from sessiond.spool import Spool
from support.harness import CLAUDE, SESSION, claude, encode
from support.program import SOURCE
from support.rules_cache import put_rules

PRETEND = str(Path(__file__).with_name("pretend_mac.py"))
STATE = "Library/Application Support/sessiond"
HIDE = 'mount -t tmpfs none /proc && mount -t tmpfs none /sys && exec "$@"'

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a Mac needs no pretence")


@pytest.fixture(scope="module")
def without_proc() -> list[str]:
    """Hide /proc, which macOS does not have, if a namespace allows it."""
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", HIDE, "sh"]
    if shutil.which("unshare") and subprocess.run([*words, "true"], check=False, capture_output=True).returncode == 0:
        return words
    return []


Mac = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def mac(tmp_path: Path, without_proc: list[str]) -> Mac:
    put_rules(str(tmp_path / STATE))
    environ = {
        "HOME": str(tmp_path),
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": SOURCE,
    }

    def start(*words: str) -> subprocess.Popen[str]:
        command = [*without_proc, sys.executable, PRETEND, *words]
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def said(mac: Mac, *words: str, code: int = 0) -> str:
    process = mac(*words)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, (words, out, err)
    assert "Traceback" not in err
    return out


def acknowledged(state: Path) -> bool:
    """Return whether a session was captured, and nothing waits. A command that says so would take longer to start."""
    try:
        spool = Spool(str(state), readonly=True)
    except StateError:
        return False  # it is not there yet
    try:
        waiting = spool.stats.waiting()
        return any(spool.catalog.sessions()) and not waiting.sessions + waiting.segments
    finally:
        spool.close()


def test_the_commands_go_the_way_of_a_mac(mac: Mac, tmp_path: Path) -> None:
    """They need no system call of Linux alone, and neither /proc nor /sys."""
    session = tmp_path / CLAUDE
    session.parent.mkdir(parents=True)
    session.write_bytes(encode(claude(SESSION, 1)))
    assert f"wrote ~/{STATE}/config.toml\n" in said(mac, "init", "--yes", "--no-service")
    assert said(mac, "sync") == "1 session, all acknowledged\n"
    assert SESSION[:8] in said(mac, "ls")
    assert "captured      1 session" in said(mac, "status", code=3)
    assert "launchd" in said(mac, "doctor")
    said(mac, "config", "set", "backlog.on_battery", "continue")
    assert plistlib.loads(said(mac, "install", "--print").encode())["Label"] == "io.sessiond"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".claude", "Library"]
    assert {path.parent.name for path in (tmp_path / STATE).rglob("*.toml")} == {"sessiond", "config.d"}


def test_the_daemon_watches_captures_and_ends_on_the_way_of_a_mac(mac: Mac, tmp_path: Path) -> None:
    session = tmp_path / CLAUDE
    session.parent.mkdir(parents=True)
    session.write_bytes(encode(claude(SESSION, 1)))
    daemon = mac("run")
    try:
        until(lambda: acknowledged(tmp_path / STATE))
        until(lambda: "1 of them" in mac("status").communicate(timeout=120)[0])
        assert "watched" in said(mac, "status")
        with open(session, "ab") as file:
            file.write(encode(claude(SESSION, 2)))
        until(lambda: said(mac, "show", SESSION).count("\n  hello") == 2)
        assert said(mac, "stop") == "stopped\n"
        _, err = daemon.communicate(timeout=60)
        assert daemon.returncode == 0
        assert "Traceback" not in err
    finally:
        daemon.kill()
        daemon.communicate()
