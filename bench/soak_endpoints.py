"""The endpoints of a soak: two servers and the built-in archive, their tokens, and other processes on their stores."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing

import measure
from processes import ROOT, Daemon, Endpoint, environment

ARCHIVE = "archive"
COMMANDS = ("token list", "token add", "token rebind", "backup", "second serve")
"""What other processes do with a store while it is served."""


class SoakDaemon(Daemon):
    """A daemon whose endpoint and token can be changed while it runs."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of the daemon and of the commands; its token is in a file."""
        return environment(self.home, SESSIOND_CONFIG=self.config)

    def configure(self, url: str, token_file: str) -> None:
        """Replace the configuration file. An empty `url` configures the built-in archive."""
        lines = [f"state_dir = {json.dumps(self.state)}", 'machine_id = "bench"']
        if url:
            lines += ["[endpoint]", f"url = {json.dumps(url)}", f"token_file = {json.dumps(token_file)}"]
        lines += ["[outbox]", f"max_bytes = {8 << 30}"]
        with open(self.config + ".new", "w") as file:
            file.write("\n".join(lines) + "\n")
        os.replace(self.config + ".new", self.config)


class Endpoints:
    """Two endpoints, each behind a proxy, and the built-in archive; one of the three is configured."""

    def __init__(self, directory: str, rnd: random.Random) -> None:
        self._rnd = rnd
        self._directory = directory
        self._added = 0
        self.servers = {name: Endpoint(os.path.join(directory, name)) for name in ("first", "second")}
        self.proxies = {name: measure.Proxy(server.port) for name, server in self.servers.items()}
        self.tokens: dict[str, str] = {}
        """The name of the token that the daemon uses, by endpoint."""
        for name in self.servers:
            self.replace_token(name)
        self.current = ARCHIVE

    @property
    def url(self) -> str:
        """Return the configured address; empty for the archive."""
        return "" if self.current == ARCHIVE else self.proxies[self.current].url

    def token_file(self, name: str) -> str:
        """Return the file with the daemon's token for an endpoint."""
        return os.path.join(self._directory, f"token-{name}")

    def change(self, daemon: SoakDaemon, name: str | None = None) -> None:
        """Configure another endpoint, a random one if none is named."""
        others = [each for each in (*self.servers, ARCHIVE) if each != self.current]
        self.current = name or self._rnd.choice(others)
        daemon.configure(self.url, "" if self.current == ARCHIVE else self.token_file(self.current))

    def revoke_token(self, name: str) -> None:
        """Revoke the daemon's token while it pushes."""
        self._serve(name, "token", "revoke", self.tokens.pop(name))

    def replace_token(self, name: str) -> None:
        """Add a token and write it to the daemon's token file."""
        self._added += 1
        token = f"laptop-{self._added}"
        secret = self._serve(name, "token", "add", token).stdout.strip()
        with open(os.open(self.token_file(name), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            file.write(secret)
        self.tokens[name] = token

    def run_command(self, command: str) -> None:
        """Run another process on a store that is being served."""
        name = self._rnd.choice(list(self.servers))
        if command == "token add":
            self._added += 1
            self._serve(name, "token", "add", f"other-{self._added}")
        elif command == "token rebind":
            if name in self.tokens:
                self._serve(name, "token", "rebind", self.tokens.pop(name))
                self.replace_token(name)  # the released device is refused until it has another one
        elif command == "backup":
            path = os.path.join(self.servers[name].directory, "endpoint.db")
            script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))"
            subprocess.run([sys.executable, "-c", script, path, path + ".backup"], check=True, timeout=60)
        elif command == "second serve":
            found = self._serve(name, "--port", "0", check=False)
            if found.returncode == 0:
                raise SystemExit(f"a second `serve` of {name} was not refused")
        else:
            self._serve(name, "token", "list")

    def _serve(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        directory = self.servers[name].directory
        return subprocess.run(
            [sys.executable, "-m", "sessiond", "serve", "--data", directory, *arguments],
            env=environment(directory),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
        )

    def check_stores(self) -> list[str]:
        """Return what SQLite finds wrong with the stores, which must not be served any more."""
        found = []
        for name, server in self.servers.items():
            with closing(sqlite3.connect(os.path.join(server.directory, "endpoint.db"))) as store:
                (result,) = store.execute("PRAGMA integrity_check").fetchone()
            if result != "ok":
                found.append(f"{name}: {result}")
        return found

    def close(self) -> None:
        """Stop the proxies and the servers."""
        for name, server in self.servers.items():
            self.proxies[name].close()
            server.stop()
