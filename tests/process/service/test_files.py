"""The files for service managers, compared with what those managers accept."""

from __future__ import annotations

import argparse
import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from sessiond.cli import serve
from sessiond.service import make_plan
from sessiond.service.systemd import SANDBOX, STRICTER
from sessiond.sources import find_variables

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "systemd" / "sessiond.service"
SERVE_UNIT = ROOT / "deploy" / "sessiond-serve.service"
PLIST = ROOT / "launchd" / "io.sessiond.plist"

KEY_TYPES: dict[str, type] = {
    "Label": str,
    "LimitLoadToSessionType": str,
    "Program": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "Nice": int,
    "LowPriorityIO": bool,
    "LowPriorityBackgroundIO": bool,
    "Umask": int,
    "SoftResourceLimits": dict,
    "HardResourceLimits": dict,
    "StandardOutPath": str,
    "StandardErrorPath": str,
}
"""The keys of launchd.plist(5) that we use or may use, and their types; launchd ignores a wrong one in silence."""

analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")


def test_the_plist_has_known_keys_of_their_types() -> None:
    job = plistlib.loads(PLIST.read_bytes())
    for key, value in job.items():
        assert type(value) is KEY_TYPES[key], key
    assert job["Label"] == PLIST.stem
    assert job["ProgramArguments"][1:] == ["run"]
    assert all(type(word) is str for word in job["ProgramArguments"])
    assert job["KeepAlive"] == {"SuccessfulExit": False}
    assert job["ProcessType"] in {"Background", "Standard", "Adaptive", "Interactive"}
    assert job["Umask"] == 0o077
    assert set(job["SoftResourceLimits"]) <= {"NumberOfFiles", "Core"}
    assert all(type(limit) is int for limit in job["SoftResourceLimits"].values())


def test_the_unit_is_one_that_the_daemon_understands() -> None:
    """The daemon speaks sd_notify, exits with 78 if the user has to correct the config, and reloads on SIGHUP."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    for line in (
        "Type=notify",
        "NotifyAccess=main",
        "Restart=on-failure",
        "RestartPreventExitStatus=75 78",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "UMask=0077",
        "WantedBy=default.target",
    ):
        assert line in lines
    assert sum(line.startswith("ExecStart=") for line in lines) == 1


@pytest.fixture(params=["plain", "sandboxed"])
def unit(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return the unit with a program that exists, alone and with the drop-in that `sessiond install` tries."""
    program = tmp_path / "sessiond"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    made = tmp_path / UNIT.name
    made.write_text(UNIT.read_text(encoding="utf-8").replace("%h/.local/bin/sessiond", str(program)), encoding="utf-8")
    if request.param == "sandboxed":
        lines = [f"{name}={value}\n" for name, value in (SANDBOX | STRICTER).items()]
        (tmp_path / f"{UNIT.name}.d").mkdir()
        (tmp_path / f"{UNIT.name}.d" / "10-sandbox.conf").write_text(f"[Service]\n{''.join(lines)}")
    return made


def analyzed(unit: Path, *words: str, manager: str = "--user") -> subprocess.CompletedProcess[str]:
    environ = {"XDG_RUNTIME_DIR": str(unit.parent), "HOME": str(unit.parent), "PATH": "/usr/bin:/bin"}
    command = ["systemd-analyze", manager, *words, str(unit)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)


@analyze
def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    done = analyzed(unit, "verify", "--man=no", "--recursive-errors=no")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@analyze
def test_the_unit_is_not_exposed_more_than_it_has_to_be(unit: Path) -> None:
    """`systemd-analyze security` goes from 0 (safe) to 100: the daemon has to read the home, write below it, and use
    the network.
    """
    threshold = 25 if (unit.parent / f"{unit.name}.d").exists() else 67
    done = analyzed(unit, "security", "--offline=true", "--no-pager", f"--threshold={threshold}")
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze reads no unit from a file")
    assert done.returncode == 0, done.stdout.splitlines()[-1]


@analyze
def test_the_unit_of_an_endpoint_is_valid_and_confined(tmp_path: Path) -> None:
    """It runs the command that the documents name, as a user of its own, and systemd finds nothing wrong with it."""
    text = SERVE_UNIT.read_text(encoding="utf-8")
    (command,) = [line.partition("=")[2] for line in text.splitlines() if line.startswith("ExecStart=")]
    made = tmp_path / SERVE_UNIT.name
    made.write_text(text.replace("/opt/sessiond/bin/sessiond", "/bin/true"), encoding="utf-8")
    done = analyzed(made, "verify", "--man=no", "--recursive-errors=no", manager="--system")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = analyzed(made, "security", "--offline=true", "--no-pager", "--threshold=20", manager="--system")
    if "unrecognized option" not in done.stderr:
        assert done.returncode == 0, done.stdout.splitlines()[-1]
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    arguments = parser.parse_args(command.split()[2:])
    assert (arguments.data, arguments.access_log) == ("/var/lib/sessiond", True)


def test_a_service_gets_the_variables_that_decide_where_sessions_are() -> None:
    """The variables of every tool and of the endpoint are passed; others and secrets are not."""
    names = [*find_variables(), "XDG_DATA_HOME", "HTTPS_PROXY"]
    environ = {name: f"/srv/{name}" for name in names} | {"EDITOR": "vi", "SESSIOND_TOKEN": "SENTINEL"}
    plan = make_plan(environ, "/state", None)
    assert plan.environment == {name: f"/srv/{name}" for name in names}
    assert {"CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "OPENCODE_DB"} <= set(names)
    assert plan.left_out == ("SESSIOND_TOKEN",)
