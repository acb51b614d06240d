"""The built-in archive: an endpoint as a child process on loopback, used if no endpoint is configured."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, TypeVar
from uuid import UUID

import msgspec

from sessiond.config import Token
from sessiond.decoding import json_decoder
from sessiond.endpoint.announcement import Announcement
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import ArchiveUnreadable, EndpointError, StateError
from sessiond.logs import log
from sessiond.memory import lean_imports
from sessiond.state import ARCHIVE

with lean_imports():
    import httpx

T = TypeVar("T")
GRACE = 5.0
"""Seconds that the process gets to end, before it is killed."""
START = 60.0
"""Seconds that it gets to start: its disk may hang, and the daemon must not hang with it."""
RESPAWN = 10.0
"""Fewest seconds between two starts, in case it ends at once each time."""


def open_archive(state_directory: str, device_id: UUID) -> ReadClient:
    """Serve the archive beside another endpoint, and return a client that reads it. Closing the client ends both.

    Raises: ArchiveUnreadable, here and from each method of the client.
    """
    try:
        archive = Archive(state_directory, lambda: None)
    except StateError as error:
        raise ArchiveUnreadable(str(error), hint=error.hint) from error
    return _ArchiveReader(archive, device_id)


class _ArchiveReader(ReadClient):
    """Reads the archive. Its errors differ from those of the endpoint that the archive is copied to."""

    def __init__(self, archive: Archive, device_id: UUID) -> None:
        super().__init__(archive.url, archive.token.reveal(), device_id=device_id)
        self._served = archive

    def close(self) -> None:
        super().close()
        self._served.stop()

    def _request(
        self,
        method: str,
        path: str,
        answer: type[T],
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> T:
        try:
            return super()._request(method, path, answer, body, headers)
        except EndpointError as error:
            raise ArchiveUnreadable(f"the built-in archive can't be read: {error}") from error

    def _fetch(self, path: str, headers: dict[str, str], method: str = "GET") -> tuple[httpx.Response, bytes]:
        try:
            return super()._fetch(path, headers, method)
        except EndpointError as error:
            raise ArchiveUnreadable(f"the built-in archive can't be read: {error}") from error


class Archive:
    """The child process that serves the archive. It ends with this process, because its stdin is a pipe from here."""

    def __init__(
        self,
        state_directory: str,
        died: Callable[[], None],
        *,
        respawn: float = RESPAWN,
        patience: float = START,
        max_bytes: int = 0,
    ) -> None:
        """Start the process and wait until it accepts requests. `max_bytes` limits its store; 0: no limit.

        `died` is called if the process ends without `stop`, at least `respawn` seconds after its start.

        Raises: StateError, it did not start within `patience` seconds.
        """
        self._stopping = threading.Event()
        self._respawn = respawn
        self._began = time.monotonic()
        directory = os.path.join(state_directory, ARCHIVE)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        token_file = os.path.join(directory, "token")
        command = [sys.executable, "-P", "-m", "sessiond", "serve", "--data", directory, "--port", "0"]
        command += ["--token-file", token_file, "--announce", "-", "--until-eof"]
        command += ["--max-bytes", str(max_bytes)] if max_bytes else []
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl+C in a terminal must not end it before the last push
        )
        assert self._process.stdout is not None
        late = threading.Timer(patience, self._process.kill)
        late.daemon = True
        late.start()
        line = self._process.stdout.readline()
        late.cancel()
        try:
            announced = json_decoder(Announcement).decode(line)
        except msgspec.MsgspecError as error:
            self.stop()
            self._process.stdout.close()
            raise StateError(
                "the built-in archive did not start", hint=f"run `sessiond serve --data {directory}` to see why"
            ) from error
        self.url = announced.url
        with open(token_file) as file:
            self.token = Token(file.read().strip())
        self.pid = announced.pid
        log.info("endpoint.started", url=self.url, pid=self.pid)
        threading.Thread(target=self._watch, args=(self._process.stdout, died), name="archive", daemon=True).start()

    def _watch(self, output: IO[bytes], died: Callable[[], None]) -> None:
        with output:
            while output.read(4096):
                pass
        code = self._process.wait()
        if not self._stopping.is_set():
            log.error("endpoint.stopped", pid=self._process.pid, reason=f"it ended with {code}")
            if not self._stopping.wait(max(0.0, self._began + self._respawn - time.monotonic())):
                died()

    def stop(self) -> None:
        """End the process, which finishes its requests and closes its store first."""
        self._stopping.set()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
