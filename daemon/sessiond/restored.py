"""Marks of restored sessions: which messages of a session were written on another machine.

`sessiond restore` writes a mark before it creates any file. The daemon then counts only messages that the mark lacks.
It captures a restored session only once the session has a message of its own: the endpoint from which it was restored
has all others already. Another endpoint gets the session at once. The marks outlive the spool.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from uuid import UUID

import msgspec

from sessiond.decoding import json_decoder
from sessiond.state import RESTORED

_NAME = re.compile(r"[0-9a-f-]{36}\.json")


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A session of another machine."""

    machine_id: str
    id: UUID


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What was restored of a session."""

    continues: Origin
    """The session that was restored last."""
    directory: str
    """The project's directory on this machine."""
    endpoint: str
    """The id of the endpoint from which it was restored."""
    restored_ms: int
    keys: bytes
    """The keys of the messages that were written elsewhere, as in `Messages.keys`."""

    @property
    def messages(self) -> frozenset[int]:
        """The keys of the messages that were written elsewhere."""
        return frozenset(memoryview(self.keys).cast("Q")) if self.keys else frozenset()


class RestoredSessions:
    """The marks in a state directory. The daemon reads one again when its file has changed."""

    def __init__(self, state_directory: str = "") -> None:
        """Read the marks below `state_directory`; if it is empty, nothing was restored."""
        self._directory = os.path.join(state_directory, RESTORED) if state_directory else ""
        self._listed: tuple[int, frozenset[str]] = -1, frozenset()
        self._read: dict[UUID, tuple[tuple[int, int], Mark]] = {}

    def __bool__(self) -> bool:
        """Return whether any session was restored."""
        return bool(self._directory) and bool(self._names())

    def find(self, identity: UUID) -> Mark | None:
        """Return the mark of a session by its id on this machine; None if it was not restored.

        A damaged mark is ignored: then messages of another machine count here too, but nothing is lost, and one file
        must not stop the daemon.
        """
        if not self._directory or f"{identity}.json" not in self._names():
            return None
        path = os.path.join(self._directory, f"{identity}.json")
        try:
            with open(path, "rb") as file:
                found = os.fstat(file.fileno())
                version = found.st_ino, found.st_mtime_ns
                known = self._read.get(identity)
                if known is None or known[0] != version:
                    known = self._read[identity] = version, json_decoder(Mark).decode(file.read())
        except OSError:
            return None
        except msgspec.MsgspecError:
            return None
        return known[1]

    def add(self, identity: UUID, mark: Mark) -> None:
        """Store a mark durably. Messages of an earlier mark stay marked. Raises: OSError."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        known = self.find(identity)
        if known is not None:
            every = dict.fromkeys([*memoryview(known.keys).cast("Q"), *memoryview(mark.keys).cast("Q")])
            mark = msgspec.structs.replace(mark, keys=b"".join(key.to_bytes(8, "little") for key in every))
        from sessiond.atomic import atomic_write  # late: `ls` imports this module, and writes nothing

        atomic_write(os.path.join(self._directory, f"{identity}.json"), msgspec.json.encode(mark))
        self._listed = -1, frozenset()

    def remove(self, identity: UUID) -> None:
        """Remove the mark of a session that the user erased."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._directory, f"{identity}.json"))

    def _names(self) -> frozenset[str]:
        """Return the names of the files. The directory is listed only after it has changed: this is asked often."""
        try:
            changed_ns = os.stat(self._directory).st_mtime_ns
        except OSError:
            return frozenset()
        if self._listed[0] != changed_ns:
            self._listed = changed_ns, frozenset(filter(_NAME.fullmatch, os.listdir(self._directory)))
        return self._listed[1]
