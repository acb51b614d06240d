"""The real tools write, offline, while the daemon watches: `make lab`.

Each script here installs a CLI (npm or PyPI) into a cache, runs scenarios against a stub model server with
one HOME, and ends. Then everything that the tool wrote must be at the endpoint, byte for byte, with the record
that a fold from scratch gives; and nothing of the tool's may have been changed by us.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from household import Household
from sessiond.endpoint.server import Running, running

HERE = Path(__file__).parent
CACHE = os.environ.get("LAB") or os.path.expanduser("~/.cache/sessiond-lab")
RESULTS = os.environ.get("SESSIOND_LAB_RESULTS")

# tool, script, scenarios (for scripts that take ONLY), version asked for, fewest sessions, fields that may be null
RUNS = [
    ("claude-code", "claude-code.sh", "plain tool resume fork model2 subagent killed weird", "2.1.330", 7, set()),
    ("claude-code", "claude-code.sh", "plain resume subagent", "2.0.14", 3, set()),
    ("claude-code", "claude-code.sh", "plain resume", "1.0.60", 3, set()),
    ("codex", "codex.sh", "plain tool resume fork model2 subagent killed weird archive", "0.169.0", 9, set()),
    ("codex", "codex.sh", "plain tool resume killed", "0.80.0", 4, set()),
    ("codex", "codex.sh", "plain", "0.20.0", 1, {"tool_version", "model", "git_branch"}),
    ("gemini-cli", "gemini-cli.sh", "plain tool resume", "", 2, {"tool_version", "git_branch"}),
    ("qwen-code", "qwen-code.sh", "plain tool resume fork killed", "", 4, set()),
    ("copilot-cli", "copilot.sh", "plain tool resume", "", 2, set()),
    ("opencode", "opencode.sh", "", "", 3, {"git_branch"}),
    ("kilo-code", "kilo.sh", "", "", 2, {"git_branch"}),
    ("cline", "cline.sh", "", "", 3, {"git_branch"}),
    ("continue", "continue.sh", "", "", 1, {"tool_version", "git_branch"}),
    ("pi", "pi.sh", "", "", 2, {"tool_version", "git_branch"}),
    ("droid", "droid.sh", "", "", 1, {"git_branch"}),
    ("kimi", "kimi.sh", "", "", 1, {"git_branch"}),
    ("mistral-vibe", "vibe.sh", "", "", 1, set()),
    ("aider", "aider.sh", "", "", 1, {"git_branch"}),
    ("openhands", "openhands.sh", "", "", 1, {"git_branch"}),
]


class Daemon:
    """`sessiond run` on a home, pushing to an endpoint of the test."""

    def __init__(self, home: str, state: str, endpoint: Running, log: Path) -> None:
        environ = {
            "HOME": home,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "SESSIOND_STATE_DIR": state,
            "SESSIOND_MACHINE_ID": "testbox",
            "SESSIOND_ENDPOINT__URL": endpoint.url,
            "SESSIOND_TOKEN": endpoint.token,
        }
        self.log = log.open("wb")
        self.process = subprocess.Popen([sys.executable, "-m", "sessiond", "run"], env=environ, stderr=self.log)

    def stop(self) -> None:
        """End it, and it must end well."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        self.log.close()


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Running]:
    with running(str(tmp_path / "endpoint")) as made:
        yield made


def tree(home: str) -> dict[str, str]:
    """Hash every file of a home; -shm files are touched by any reader of a database."""
    found = {}
    for path in sorted(Path(home).rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.endswith("-shm"):
            found[str(path.relative_to(home))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def sessions(endpoint: Running) -> dict[str, dict]:
    """What the endpoint has: session id to record, parent and the digests of all streams."""
    headers = {"Authorization": f"Bearer {endpoint.token}"}
    found = {}
    for item in httpx.get(f"{endpoint.url}/v1/sessions?limit=500", headers=headers).json()["sessions"]:
        record = item["record"]
        base = f"{endpoint.url}/v1/sessions/testbox/{record['id']}/streams"
        streams = httpx.get(base, headers=headers).json()["streams"]
        digests = {
            stream["name"]: hashlib.sha256(httpx.get(f"{base}/{stream['name']}", headers=headers).content).hexdigest()
            for stream in streams
        }
        gone = item["gone_at"] is not None
        found[record["id"]] = {"record": record, "parent": item["parent"], "streams": digests, "gone": gone}
    return found


@pytest.mark.lab
@pytest.mark.parametrize(("tool", "script", "only", "version", "fewest", "nullable"), RUNS)
def test_what_a_real_tool_writes_arrives(
    tool: str,
    script: str,
    only: str,
    version: str,
    fewest: int,
    nullable: set[str],
    endpoint: Running,
    tmp_path: Path,
) -> None:
    """Each session is at the endpoint, right in every field, and the tool's files are as it left them."""
    home, out = str(tmp_path / "home"), tmp_path / "out"
    os.makedirs(home)
    daemon = Daemon(home, str(tmp_path / "state"), endpoint, tmp_path / "log")
    environ = {**os.environ, "LAB": CACHE, "LABHOME": home, "ONLY": only}
    command = ["bash", str(HERE / script), str(out), *([version] if version else [])]
    with (tmp_path / "lab.log").open("wb") as log:
        subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=1500, check=False
        )
    before = tree(home)

    with running(str(tmp_path / "anew")) as other:
        anew = Household(str(tmp_path / "anew-home"), other)
        anew.home, anew.now_ms = home, time.time_ns() // 1_000_000
        anew.close()
        anew.open()
        anew.settle()
        expected = sessions(other)
        anew.client.close()
        anew.close()
    deadline = time.monotonic() + 20
    while (found := sessions(endpoint)) != _aligned(expected, found) and time.monotonic() < deadline:
        time.sleep(0.5)
    daemon.stop()

    assert tree(home) == before
    mine = {identity: session for identity, session in found.items() if session["record"]["tool"] == tool}
    assert found == _aligned(expected, found)
    assert len(mine) >= fewest, (tmp_path / "lab.log").read_text(errors="replace")[-3000:]
    for session in mine.values():
        record = session["record"]
        said = record["message_count"] >= 2
        for field in ("tool_version", "model", "git_branch"):
            assert record[field] is not None or field in nullable or not said, (field, record)
    _report(tool, out, version, mine)


def _aligned(expected: dict[str, dict], found: dict[str, dict]) -> dict[str, dict]:
    """Allow for the daemon's clock (a fresh session is ongoing) and for what the tool has deleted: we have it still."""
    aligned = {}
    for identity, session in expected.items():
        record = dict(session["record"])
        if identity in found:
            record["ended_at"] = found[identity]["record"]["ended_at"]
        aligned[identity] = {**session, "record": record}
    return aligned | {identity: session for identity, session in found.items() if session["gone"]}


def _report(tool: str, out: Path, version: str, mine: dict[str, dict]) -> None:
    names = sorted(out.glob("VERSION"))
    shown = names[0].read_text().strip().splitlines()[0] if names and names[0].read_text().strip() else version
    counts = [session["record"]["message_count"] for session in mine.values()]
    row = {"tool": tool, "version": shown, "sessions": len(mine), "messages": sum(counts)}
    print(json.dumps(row))
    if RESULTS:
        with open(RESULTS, "a") as file:
            file.write(json.dumps(row) + "\n")
