"""Two other programs that capture sessions, over a copy of the same home (`make bench-rivals` installs them)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess

import measure


class Rival:
    """A program in an environment of its own."""

    name = ""
    command: tuple[str, ...] = ()

    def __init__(self, cache: str, home: str) -> None:
        self.home = home
        self._bin = os.path.join(cache, "rivals", self.name, "bin")
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def installed(cls, cache: str) -> bool:
        """Return whether it is installed."""
        return os.path.exists(os.path.join(cache, "rivals", cls.name, "bin", cls.command[0]))

    def start(self) -> None:
        """Start it, without telemetry."""
        environ = {
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "HOME": self.home,
            "LANG": "C.UTF-8",
            "DO_NOT_TRACK": "1",
            "SFS_NO_TELEMETRY": "1",
            "AGENTSVIEW_TELEMETRY_ENABLED": "0",
        }
        program, *arguments = self.command
        with open(os.path.join(self.home, "rival.out"), "ab") as said:
            self.process = subprocess.Popen(
                [os.path.join(self._bin, program), *arguments, *self.more()],
                env=environ,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def more(self) -> list[str]:
        """Further arguments."""
        return []

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def stop(self) -> None:
        """End it with all that it started."""
        members = measure.tree(self.pid)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            for member in members:
                try:
                    os.kill(member, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.wait()

    def _ask(self, path: str, sql: str, *values: object) -> list[tuple]:
        try:
            connection = sqlite3.connect(f"file:{self.home}/{path}?mode=ro", uri=True, timeout=1.0)
            try:
                return connection.execute(sql, values).fetchall()
            finally:
                connection.close()
        except sqlite3.Error:
            return []

    def sessions(self) -> int:
        """Count what it has taken in."""
        raise NotImplementedError

    def sees(self, session: str, marker: str) -> bool:
        """Return whether a text of a Claude Code session is in its store."""
        raise NotImplementedError


class AgentsView(Rival):
    """agentsview serve: a local index and a web page for it."""

    name = "agentsview"
    command = ("agentsview", "serve", "--no-browser", "--no-update-check")

    def more(self) -> list[str]:
        """Return the arguments that make it listen on a free port."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            return ["--port", str(free.getsockname()[1])]

    def sessions(self) -> int:
        """Count the sessions of its index."""
        found = self._ask(".agentsview/sessions.db", "SELECT count(*) FROM sessions WHERE deleted_at IS NULL")
        return found[0][0] if found else 0

    def sees(self, session: str, marker: str) -> bool:
        """Look at the last messages of the session."""
        sql = "SELECT content FROM messages WHERE session_id = ? ORDER BY ordinal DESC LIMIT 6"
        return any(marker in row[0] for row in self._ask(".agentsview/sessions.db", sql, session))


class SessionFS(Rival):
    """sessionfs' daemon: converted copies of all sessions."""

    name = "sessionfs"
    command = ("sfsd",)

    def start(self) -> None:
        """Turn its reading of Codex on, which its wizard would."""
        folder = os.path.join(self.home, ".sessionfs")
        os.makedirs(folder, exist_ok=True)
        with open(os.open(os.path.join(folder, "config.toml"), os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write('log_level = "INFO"\n[claude_code]\nenabled = true\n[codex]\nenabled = true\n')
            file.write('[storage]\nmax_local_storage = "50GB"\nlocal_retention_days = 3650\n')
        super().start()

    def sessions(self) -> int:
        """Count the sessions of its index."""
        found = self._ask(".sessionfs/index.db", "SELECT count(*) FROM sessions")
        return found[0][0] if found else 0

    def sees(self, session: str, marker: str) -> bool:
        """Look at the end of its copy."""
        sql = "SELECT sfs_session_id FROM tracked_sessions WHERE native_session_id = ?"
        for (own,) in self._ask(".sessionfs/index.db", sql, session):
            try:
                with open(f"{self.home}/.sessionfs/sessions/{own}.sfs/messages.jsonl", "rb") as file:
                    file.seek(max(0, os.fstat(file.fileno()).st_size - 60_000))
                    return marker.encode() in file.read()
            except OSError:
                return False
        return False


RIVALS = (AgentsView, SessionFS)


def copy(corpus: str, home: str) -> str:
    """Copy the home for a rival, as some write into the tools' directories."""
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(corpus, home)
    return home
