"""The agent on macOS, against a fake launchctl that records its arguments."""

from __future__ import annotations

import os
import plistlib
from pathlib import Path

import pytest
from test_files import KEY_TYPES

from sessiond.errors import ServiceError
from sessiond.service import Launchd, Plan
from sessiond.service.launchd import LABEL, UNLOAD_TIMEOUT
from sessiond.service.plan import packaged

LAUNCHCTL = """#!/bin/sh
echo "$*" >> "$HOME/calls"
loaded="$HOME/loaded-$(echo "$2" | cut -d/ -f1)"
case "$1 $2" in
  "print "*/io.sessiond)
    if [ -s "$loaded" ]; then  # it is being unloaded: so many answers more
      left=$(($(cat "$loaded") - 1))
      if [ $left -gt 0 ]; then echo $left > "$loaded"; else rm "$loaded"; fi
    fi
    [ -e "$loaded" ] || exit 113
    echo "	pid = 4711";;
  "print gui/"*) [ -e "$HOME/screen" ] || exit 125;;
  "print user/"*) [ -e "$HOME/screen" ] || [ -e "$HOME/ssh" ] || exit 125;;
  bootstrap*)
    if [ -e "$HOME/releasing" ] || [ -e "$loaded" ]; then
      rm -f "$HOME/releasing"; echo "Bootstrap failed: 5: Input/output error" >&2; exit 5
    fi
    case "$2" in
      gui/*) [ -e "$HOME/screen" ];;
      *) grep -A1 LimitLoadToSessionType "$3" | grep -q "<string>Background<";;
    esac || { echo "Bootstrap failed: 125: Domain does not support specified action" >&2; exit 125; }
    touch "$loaded";;
  bootout*)
    echo 3 > "$loaded"; touch "$HOME/releasing"
    echo "Boot-out failed: 36: Operation now in progress" >&2; exit 36;;
  "kickstart "*) exit 37;;
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
    load = ["enable gui/UID/io.sessiond", f"bootstrap gui/UID {file}"]
    again = [*load, load[1]]  # launchd refuses it once more after it has forgotten it
    assert calls(home) == [*load, "bootout gui/UID/io.sessiond", *again, "bootout gui/UID/io.sessiond"]


def test_over_ssh_it_goes_where_no_screen_is_needed_and_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command finds the agent in the domain for which its file was made."""
    (home / "screen").unlink()
    (home / "ssh").touch()
    manager = launchd(home, monkeypatch)
    manager.check()
    list(manager.install(PLAN))
    assert (home / "loaded-user").exists()
    later = launchd(home, monkeypatch)
    assert later.pid() == 4711
    assert later.drift(PLAN) is None
    later.start()
    later.stop()
    assert not (home / "loaded-user").exists()
    later.start()
    (home / "screen").touch()
    fresh = launchd(home, monkeypatch)
    fresh.check()
    steps = list(fresh.install(PLAN))
    assert steps[0].startswith("wrote ")
    assert [path.name for path in home.glob("loaded-*")] == ["loaded-gui"]
    assert "LimitLoadToSessionType" not in plistlib.loads(Path(fresh.file).read_bytes())
    assert fresh.drift(PLAN) is None


def test_a_refused_agent_is_an_error_that_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = launchd(home, monkeypatch)
    manager.check()
    list(manager.install(PLAN))
    manager.stop()
    (home / "screen").unlink()
    with pytest.raises(ServiceError, match="125: Domain does not support"):
        manager.start()


def test_a_stop_waits_for_longer_than_the_daemon_may_take() -> None:
    assert plistlib.loads(packaged(f"{LABEL}.plist").encode())["ExitTimeOut"] < UNLOAD_TIMEOUT


def test_nothing_is_written_where_launchd_does_not_answer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "screen").unlink()
    with pytest.raises(ServiceError):
        launchd(home, monkeypatch).check()
    assert not (home / "Library").exists()
