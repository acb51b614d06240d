"""Runs a real tool offline while the daemon watches, and reads what arrived at the endpoint."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import httpx
import msgspec
from msgspec.structs import replace

from lab.captured import Check, check_files
from lab.runs import Run
from sessiond.config import Config
from sessiond.endpoint.server import Running, running
from sessiond.sources import find_project_roots
from support.harness import DaemonHarness

HERE = Path(__file__).parent
REPOSITORY = re.compile(r"^repository: (.+)$", re.MULTILINE)
CACHE = os.environ.get("LAB") or os.path.expanduser("~/.cache/sessiond-lab")


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run of a script."""

    output: str
    """What the script printed."""
    repository: str
    """The directory in which the tool worked."""
    found: dict[str, dict]
    """The sessions at the endpoint, which the daemon pushed while the tool ran."""
    expected: dict[str, dict]
    """Those that a scan of the finished home gives."""
    changed: list[str]
    """The tool's files that we changed."""
    unknown: list[str]
    """Record types that the source does not know."""
    files: Check
    """What became of each file of the tool."""
    streams: list[bytes]
    """The contents of the tool's streams."""

    def sessions(self, tool: str) -> list[dict]:
        """Return the sessions of a tool."""
        return [session for session in self.found.values() if session["record"]["tool"] == tool]


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the daemon if it was not stopped, because the run has failed."""
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self) -> None:
        """Stop the daemon. Raises: AssertionError if it did not end well."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0


def tree(home: str) -> dict[str, str]:
    """Hash every file of a home; -shm files are touched by any reader of a database."""
    found = {}
    for path in sorted(Path(home).rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.endswith("-shm"):
            found[str(path.relative_to(home))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def sessions(endpoint: Running) -> dict[str, dict]:
    """Return what the endpoint has: session id to record, parent, and the digests and contents of all streams."""
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
            "title": item["title"],
            "streams": {name: hashlib.sha256(content).hexdigest() for name, content in held.items()},
            "contents": held,
            "gone": item["gone_at"] is not None,
        }
    return found


@contextmanager
def home_directory(home: str) -> Iterator[None]:
    """Make a directory the home of this process: some tools write their project's path with ~."""
    before = os.environ.get("HOME")
    os.environ["HOME"] = home
    try:
        yield
    finally:
        if before is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = before


def observe(run: Run, directory: Path) -> Observed:
    """Run a script in a new directory, with a daemon and an endpoint, until nothing is left to push."""
    home, out = str(directory / "home"), directory / "out"
    os.makedirs(home)
    with (
        running(str(directory / "endpoint")) as endpoint,
        Daemon(home, str(directory / "state"), endpoint, directory / "log") as daemon,
    ):
        output = _run_script(run, home, out, directory / "lab.log")
        before, repository = tree(home), REPOSITORY.search(output)
        assert repository, output[-3000:]
        with running(str(directory / "again")) as other:
            second = DaemonHarness(str(directory / "second-home"), other)
            with home_directory(home):
                expected = _scan_again(second, home, repository[1], other)
            # A project of Aider's is found by the rescan, which comes once a minute, and less often if scans take long.
            deadline = time.monotonic() + 600
            while (found := sessions(endpoint)) != aligned(
                expected, found, run, before
            ) and time.monotonic() < deadline:
                time.sleep(0.5)
            daemon.stop()
            mine = [session for session in found.values() if session["record"]["tool"] == run.tool]
            titles = [session["title"] or "" for session in mine]
            streams = [content for session in mine for content in session["contents"].values()]
            places = [(source, root) for source, root in second.ingesting.roots if source.tool == run.tool]
            counts = [count for count in second.spool.stats.tools() if count.tool == run.tool]
            observed = Observed(
                output=output,
                repository=repository[1],
                found=found,
                expected=aligned(expected, found, run, before),
                changed=sorted({*before.items()} ^ {*tree(home).items()}),
                unknown=[name for count in counts for name in count.unknown],
                files=check_files(home, places, streams, set(second.known()), set(found), titles),
                streams=streams,
            )
            second.client.close()
            second.close()
    return observed


def _run_script(run: Run, home: str, out: Path, log_path: Path) -> str:
    """Run the script of a tool; return what it printed."""
    environ = {**os.environ, "LAB": CACHE, "LABHOME": home, "ONLY": run.only}
    command = ["bash", str(HERE / run.script), str(out), run.version]
    with log_path.open("wb") as log:
        subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=3600, check=False
        )
    return log_path.read_text(errors="replace")


def _scan_again(second: DaemonHarness, home: str, repository: str, endpoint: Running) -> dict[str, dict]:
    """Return what a scan of the finished home gives, without what was seen while it was written."""
    second.home, second.now_ms = home, time.time_ns() // 1_000_000
    second.close()
    second.open()
    projects = find_project_roots(Config(), {"HOME": home}, [repository])
    second.ingesting = replace(second.ingesting, roots=[*second.ingesting.roots, *projects])
    second.settle()
    return sessions(endpoint)


def aligned(
    expected: dict[str, dict], found: dict[str, dict], run: Run, files: Collection[str] = ()
) -> dict[str, dict]:
    """Allow for the daemon's clock (a fresh session is ongoing) and for what the tool has deleted: we have it still.

    `files` has the paths of all files that are left. A stream whose file is not among them is that of a deleted file.
    """
    made = {}
    for identity, session in expected.items():
        record = dict(session["record"])
        if identity in found:
            theirs = found[identity]["record"]
            record["ended_at"] = theirs["ended_at"]
            if not run.timed:
                record["started_at"] = min(record["started_at"], theirs["started_at"])
        made[identity] = {**session, "record": record}
        for part in ("streams", "contents"):
            theirs = found.get(identity, session)[part]
            deleted = {
                name: theirs[name] for name in theirs.keys() - session[part].keys() if _is_gone(name, identity, files)
            }
            made[identity][part] = session[part] | deleted
    return made | {identity: session for identity, session in found.items() if session["gone"]}


def _is_gone(name: str, identity: str, files: Collection[str]) -> bool:
    """Return whether no file of a session is left that a side file's stream may be of."""
    last = name.rpartition("/")[2]
    return not any(identity in path and path.endswith(last) for path in files)
