"""The real tools write, offline, while the daemon watches: `make lab`.

Each script here installs a CLI (npm or PyPI) into a cache, runs scenarios against a stub model server with
one HOME, and ends. Then everything that the tool wrote must be at the endpoint, byte for byte, with the record
that a fold from scratch gives and that runs.py expects; and nothing of the tool's may have been changed by us.
What held is written to results.toml, which docs/sources.md shows.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lab.results import Result, keep, scenarios
from lab.runs import RUNS, Run
from sessiond.config import Config
from sessiond.endpoint.server import Running, running
from sessiond.sources import find_project_roots
from support.harness import Household

HERE = Path(__file__).parent
REPOSITORY = re.compile(r"^repository: (.+)$", re.MULTILINE)
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CACHE = os.environ.get("LAB") or os.path.expanduser("~/.cache/sessiond-lab")


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
        held = {it["name"]: httpx.get(f"{base}/{it['name']}", headers=headers).content for it in streams}
        found[record["id"]] = {
            "record": record,
            "parent": item["parent"],
            "streams": {name: hashlib.sha256(content).hexdigest() for name, content in held.items()},
            "lengths": [len(content) for content in held.values()],
            "gone": item["gone_at"] is not None,
        }
    return found


@pytest.mark.lab
@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.tool}-{run.version}")
def test_what_a_real_tool_writes_arrives(run: Run, endpoint: Running, tmp_path: Path) -> None:
    """Each session is at the endpoint, right in every field, and the tool's files are as it left them."""
    home, out = str(tmp_path / "home"), tmp_path / "out"
    os.makedirs(home)
    daemon = Daemon(home, str(tmp_path / "state"), endpoint, tmp_path / "log")
    environ = {**os.environ, "LAB": CACHE, "LABHOME": home, "ONLY": run.only}
    command = ["bash", str(HERE / run.script), str(out), run.version]
    with (tmp_path / "lab.log").open("wb") as log:
        subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=1500, check=False
        )
    before, said = tree(home), (tmp_path / "lab.log").read_text(errors="replace")
    repository = REPOSITORY.search(said)
    assert repository, said[-3000:]

    with running(str(tmp_path / "again")) as other:
        expected = _folded_again(Household(str(tmp_path / "second-home"), other), home, repository[1], other)
    # A project of Aider's is learned by the rescan, which comes once a minute.
    deadline = time.monotonic() + 90
    while (found := sessions(endpoint)) != _aligned(expected, found, run) and time.monotonic() < deadline:
        time.sleep(0.5)
    daemon.stop()

    assert tree(home) == before
    assert found == _aligned(expected, found, run)
    mine = [session for session in found.values() if session["record"]["tool"] == run.tool]
    (tmp_path / "sessions.json").write_text(json.dumps(mine, indent=1))
    for session in mine:
        _check(session, run, repository[1])
    counts = [session["record"]["message_count"] for session in mine]
    missing = sum(run.counts) - sum(counts)
    assert len(counts) == len(run.counts), said[-3000:]
    assert tuple(sorted(counts)) == run.counts or 0 < missing <= run.unwaited
    ran, refused = scenarios(said)
    today = datetime.datetime.now(datetime.UTC).date()
    keep(Result(run.tool, run.version, today, ran, refused, sessions=len(counts), messages=sum(counts)))


def _folded_again(second: Household, home: str, repository: str, endpoint: Running) -> dict[str, dict]:
    """Return what a scan of the finished home gives, without what was seen while it was written."""
    second.home, second.now_ms = home, time.time_ns() // 1_000_000
    second.close()
    second.open()
    second.ingesting.roots.extend(find_project_roots(Config(), {"HOME": home}, [repository]))
    second.settle()
    expected = sessions(endpoint)
    second.client.close()
    second.close()
    return expected


def _check(session: dict, run: Run, repository: str) -> None:
    """Hold a record against what the script did, and a transcript of lines against its file."""
    record = session["record"]
    assert record["working_directory"] == (repository if run.placed else ""), record
    assert record["git_branch"] == run.branch, record
    assert record["tool_version"] == (run.version if run.versioned else None), record
    answered = record["message_count"] > 1 and run.models
    assert record["model"] in run.models or (record["model"] is None and not answered), record
    path = record["source_path"]
    named = UUID.findall(os.path.basename(path))
    assert not named or record["id"] in named, record
    if path.endswith(".jsonl") and os.path.exists(path):
        assert os.path.getsize(path) in session["lengths"], (record, session["lengths"])


def _aligned(expected: dict[str, dict], found: dict[str, dict], run: Run) -> dict[str, dict]:
    """Allow for the daemon's clock (a fresh session is ongoing) and for what the tool has deleted: we have it still."""
    aligned = {}
    for identity, session in expected.items():
        record = dict(session["record"])
        if identity in found:
            theirs = found[identity]["record"]
            record["ended_at"] = theirs["ended_at"]
            if not run.timed:
                record["started_at"] = min(record["started_at"], theirs["started_at"])
        aligned[identity] = {**session, "record": record}
    return aligned | {identity: session for identity, session in found.items() if session["gone"]}
