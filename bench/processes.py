"""A daemon and an endpoint as processes, with a generated home, for measuring."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import measure

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOKEN = "token-of-the-bench"


def environment(home: str, **more: str) -> dict[str, str]:
    """Make the environment of a user who lives in `home` and has nothing else."""
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": home,
        "PYTHONPATH": os.path.join(ROOT, "daemon"),
        **more,
    }


class Endpoint:
    """The reference endpoint."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.port = 0
        os.makedirs(directory, exist_ok=True)
        self._token_file = os.path.join(directory, "token")
        with open(os.open(self._token_file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            file.write(TOKEN)
        self.start()

    def start(self) -> None:
        """Start it, on the same port as before."""
        command = [sys.executable, "-m", "sessiond", "serve", "--data", self.directory, "--port", str(self.port)]
        command += ["--token-file", self._token_file, "--announce", "-", "--until-eof"]
        self.process = subprocess.Popen(
            command,
            env=environment(self.directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        announced = json.loads(self.process.stdout.readline())
        self.port = int(announced["url"].rpartition(":")[2])

    def stop(self, *, kill: bool = False) -> None:
        """End it."""
        if kill:
            self.process.kill()
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


class Daemon:
    """`sessiond run` over a home, with its state elsewhere."""

    name = "sessiond"

    def __init__(self, home: str, state: str, url: str, redact: str = "mask") -> None:
        self.home, self.state = home, state
        os.makedirs(state, mode=0o700, exist_ok=True)
        self.config = f"{state}.toml"
        lines = [f"state_dir = {json.dumps(state)}", 'machine_id = "bench"', f'redact = "{redact}"']
        lines += ["[endpoint]", f"url = {json.dumps(url)}", "[outbox]", f"max_bytes = {8 << 30}"]
        with open(self.config, "w") as file:
            file.write("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What it and its commands run in."""
        return environment(self.home, SESSIOND_TOKEN=TOKEN, SESSIOND_CONFIG=self.config)

    def start(self) -> None:
        """Start it."""
        with open(os.path.join(self.state, "stderr"), "ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sessiond", "run"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def stop(self, *, kill: bool = False) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            self.process.wait(30)

    def ask(self, sql: str) -> tuple:
        """Query its spool; return nothing while it does not exist yet or is being written."""
        try:
            connection = sqlite3.connect(f"file:{self.state}/spool.db?mode=ro", uri=True, timeout=1.0)
            try:
                return connection.execute(sql).fetchone() or ()
            finally:
                connection.close()
        except sqlite3.Error:
            return ()

    def captured(self) -> bool:
        """Return whether all found files have been read since the process began."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the daemon ended with {self.process.returncode}, see {self.state}/stderr")
        found = self.ask("SELECT value FROM meta WHERE key = 'health.capture'")
        if not found:
            return False
        health = json.loads(found[0])
        return health["discovered"] is not None and not health["backlog"]

    def pushed(self) -> bool:
        """Return whether the endpoint has everything."""
        return self.ask(
            "SELECT (SELECT count(*) FROM segment) + (SELECT count(*) FROM session WHERE revision > pushed)"
            " + (SELECT count(*) FROM stream WHERE queued < folded OR NOT known)"
        ) == (0,)

    def counts(self) -> tuple[int, int]:
        """Count the sessions that have a record, and their messages."""
        sql = "SELECT count(*), sum(json_extract(CAST(record AS TEXT), '$.message_count')) FROM session WHERE record"
        return self.ask(f"{sql} IS NOT NULL") or (0, 0)

    def settle(self, timeout: float) -> None:
        """Wait until it has nothing to do, by its CPU time."""
        measure.wait(self.captured, timeout, 0.05)
        quiet, last = 0, measure.cost(self.pid).cpu
        while quiet < 3:
            measure.time.sleep(1)
            now = measure.cost(self.pid).cpu
            quiet, last = quiet + 1 if now - last < 0.01 else 0, now


def clear(directory: str) -> str:
    """Make an empty directory."""
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory, mode=0o700)
    return directory
