"""The parts of a trial: processes that are killed, devices that push, and one that follows the changes."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from endpoint_lines import append, record

HERE = Path(__file__).parent
DAEMON = HERE.parents[1] / "daemon"
TOKEN = "sd_" + "k" * 43
"""The token of the follower."""
WORDS = [random.Random(number).randbytes(5).hex() for number in range(500)]
PUSHES = 12
"""Pushes of a session, before a device begins the next one."""


class Child:
    """A process that is killed and started again."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command = [sys.executable, *command]
        paths = os.pathsep.join([str(HERE), str(DAEMON)])
        self._environ = os.environ | {"PYTHONPATH": paths} | environ
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, env=self._environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill it without warning, and start it again."""
        self.stop()
        self._process = self._start()

    def keep(self) -> None:
        """Start it again if it has ended by itself, as a service manager does."""
        if self._process.poll() is not None:
            self._process = self._start()

    def stop(self) -> None:
        """Kill it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def token_of(number: int) -> str:
    """Return the token of a device, which is bound to it."""
    return f"sd_{number:043}"


class Device(threading.Thread):
    """Pushes sessions, each push until it is acknowledged. `acknowledged`: of each session its bytes and revision."""

    def __init__(self, number: int, urls: Sequence[str], end: Callable[[], bool]) -> None:
        super().__init__(name=f"device {number}")
        self._token = token_of(number)
        self._machine, self._device = f"machine{number}", str(uuid.UUID(int=number + 1))
        self._chance = random.Random(number)
        self._urls, self._end = urls, end
        self.acknowledged: dict[str, tuple[bytes, int]] = {}
        self.problems: list[str] = []
        self.failures = 0

    @property
    def machine(self) -> str:
        """The machine id of its sessions."""
        return self._machine

    def run(self) -> None:
        """Push until the end."""
        with httpx.Client(timeout=60) as client:
            while not self._end() and not self.problems:
                self._session(client, str(uuid.UUID(int=self._chance.getrandbits(128), version=4)))

    def _session(self, client: httpx.Client, session: str) -> None:
        content = b""
        for revision in range(1, PUSHES + 1):
            if self._end():
                return
            data = self._text()
            whole = content + data
            length = [{"name": "main", "generation": 0, "length": len(whole)}]
            lines = [
                append(len(content), data, session=session, machine_id=self._machine),
                record(revision, device=self._device, id=session, machine_id=self._machine) | {"streams": length},
            ]
            self._push(client, lines)
            if self.problems:
                return
            content = whole
            self.acknowledged[session] = content, revision

    def _push(self, client: httpx.Client, lines: list[dict[str, Any]]) -> None:
        """Send the same lines until they are acknowledged."""
        body = b"\n".join(json.dumps(line).encode() for line in lines)
        while True:
            headers = {"Content-Type": "application/x-ndjson", "Sessiond-Batch": uuid.uuid4().hex}
            headers |= {"Authorization": f"Bearer {self._token}", "Sessiond-Device": self._device}
            try:
                answer = client.post(f"{self._chance.choice(self._urls)}/v1/push", content=body, headers=headers)
            except httpx.HTTPError:
                self.failures += 1
                time.sleep(0.1)
                continue
            if answer.status_code != 200:
                self.failures += 1
                if answer.status_code not in (503,):
                    self.problems.append(f"{answer.status_code}: {answer.text}")
                    return
                time.sleep(0.1)
                continue
            results = answer.json()["results"]
            kinds = [each.get("problem", {}).get("type", each["status"]) for each in results]
            if all(kind in {"stored", "duplicate"} for kind in kinds):
                return
            if not set(kinds) <= {"stored", "duplicate", "push-full"}:
                self.problems.append(json.dumps(results))
                return

    def _text(self) -> bytes:
        words = 3000 if self._chance.random() < 0.1 else self._chance.randrange(5, 400)
        return (" ".join(self._chance.choice(WORDS) for _ in range(words)) + "\n").encode()


class Follower(threading.Thread):
    """Follows the changes, and keeps the revision of each session that it last saw."""

    def __init__(self, urls: Sequence[str], end: Callable[[], bool]) -> None:
        super().__init__(name="follower")
        self._urls, self._end = urls, end
        self.seen: dict[tuple[str, str], int] = {}
        self.problems: list[str] = []

    def run(self) -> None:
        """Follow until the end, and then until there is nothing more."""
        since: dict[str, str] = {}
        turn = 0
        with httpx.Client(timeout=60, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            while True:
                last = self._end()
                turn += 1
                url = self._urls[turn % len(self._urls)]
                try:
                    answer = client.get(f"{url}/v1/changes", params={"limit": 200, **since})
                except httpx.HTTPError:
                    time.sleep(0.1)
                    continue
                if answer.status_code == 503:
                    time.sleep(0.1)
                    continue
                if answer.status_code != 200:
                    self.problems.append(f"{answer.status_code}: {answer.text}")
                    return
                page = answer.json()
                for each in page["sessions"]:
                    key = (each["record"]["machine_id"], each["record"]["id"])
                    if each["revision"] < self.seen.get(key, 0):
                        self.problems.append(f"{key} went back to revision {each['revision']}")
                    self.seen[key] = each["revision"]
                since = {"since": page["next"]}
                if last and not page["more"]:
                    return
                time.sleep(0.05)
