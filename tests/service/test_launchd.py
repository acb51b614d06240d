"""The agent on macOS, against a stand-in for launchctl that keeps what it is told."""

from __future__ import annotations

import os
import plistlib
from pathlib import Path

import pytest
from test_files import KEY_TYPES

from sessiond.errors import ServiceError
from sessiond.service import Launchd, Plan

LAUNCHCTL = """#!/bin/sh
echo "$*" >> "$HOME/calls"
case "$1 $2" in
  "print gui/"*/io.sessiond) [ -e "$HOME/loaded" ] || exit 113; echo "	pid = 4711";;
  "print gui/"*) [ -e "$HOME/screen" ] || exit 125;;
  "print user/"*) exit 125;;
  bootstrap*) [ -e "$HOME/loaded" ] && { echo "Bootstrap failed: 5" >&2; exit 5; }; touch "$HOME/loaded";;
  bootout*) rm "$HOME/loaded";;
esac
"""
PLAN = Plan(command=("/opt/a b/sessiond", "run"), state_dir="/s", environment={"CODEX_HOME": "/srv/codex"})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "launchctl").write_text(LAUNCHCTL)
    (tmp_path / "launchctl").chmod(0o755)
    (tmp_path / "screen").touch()
    return tmp_path


def launchd(home: Path, monkeypatch: pytest.MonkeyPatch) -> Launchd:
    monkeypatch.setenv("PATH", f"{home}:{os.defpath}")
    return Launchd({"HOME": str(home), "PATH": f"{home}:{os.defpath}"})


def calls(home: Path) -> list[str]:
    made = [line for line in (home / "calls").read_text().splitlines() if not line.startswith("print")]
    return [line.replace(f"gui/{os.getuid()}", "gui/UID") for line in made]


def test_install_loads_the_agent_and_uninstall_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = launchd(home, monkeypatch)
    manager.check()
    file = home / "Library/LaunchAgents/io.sessiond.plist"
    steps = list(manager.install(PLAN))
    assert steps[0] == f"wrote {file}"
    job = plistlib.loads(file.read_bytes())
    assert all(type(value) is KEY_TYPES[key] for key, value in job.items())
    assert job["ProgramArguments"] == ["/opt/a b/sessiond", "run"]
    assert job["EnvironmentVariables"] == {"CODEX_HOME": "/srv/codex"}
    assert manager.pid() == 4711
    assert manager.drift(PLAN) is None
    steps = list(manager.install(PLAN))
    assert steps[0] == f"kept {file}"
    assert list(manager.uninstall()) == ["stopped it", f"removed {file}"]
    assert list(manager.uninstall()) == []
    load = ["enable gui/UID/io.sessiond", f"bootstrap gui/UID {file}", "kickstart gui/UID/io.sessiond"]
    assert calls(home) == [*load, "bootout gui/UID/io.sessiond", *load, "bootout gui/UID/io.sessiond"]


def test_nothing_is_written_where_launchd_does_not_answer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "screen").unlink()
    with pytest.raises(ServiceError):
        launchd(home, monkeypatch).check()
    assert not (home / "Library").exists()
