"""Reads sessions of any machine from an endpoint, to restore them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import IO, Protocol
from uuid import UUID

from sessiond.endpoint import wire
from sessiond.errors import EndpointError, NotFound
from sessiond.sources.plan import RECORDS, ArchivedSession, ArchivedStream, Recipe

LISTED = 1000
"""Sessions in one request."""
PIECE = 1 << 20


class Sessions(Protocol):
    """Where sessions are read from. Each method raises EndpointError, and NotFound as that of `ReadClient`."""

    def endpoint_id(self) -> str:
        """Return the id of the endpoint."""

    def sessions(self, after: str | None = None, limit: int = ...) -> wire.SessionsAnswer:
        """Return a page of sessions."""

    def session(self, machine_id: str, session: UUID) -> wire.StoredSession:
        """Return one session with its record."""

    def streams(self, machine_id: str, session: UUID) -> list[wire.StoredStream]:
        """Return the streams of a session with all their generations."""

    def stream(
        self,
        machine_id: str,
        session: UUID,
        name: str,
        *,
        generation: int | None = None,
        start: int = 0,
        end: int | None = None,
    ) -> Iterator[bytes]:
        """Iterate the bytes of a stream up to `end`."""


class Archive:
    """Sessions at an endpoint. Streams are copied into an unnamed file, which takes no memory and vanishes when closed.

    All streams share one file: a fork may have hundreds of parents, and a process may open few files (ulimit -n).
    """

    def __init__(
        self,
        client: Sessions | None,
        scratch: str,
        local: Iterable[Callable[[], Sessions]] = (),
        notify: Callable[[str], object] = str,
    ) -> None:
        """`scratch` is the directory of the unnamed file. `notify` is called if the endpoint does not answer.

        `local` are functions that open this machine's built-in archive and its spool, which may have a session that the
        endpoint does not have yet. They are used in turn if the endpoint does not answer or does not know the session,
        or if there is no `client`.
        """
        self._local, self._notify = list(local), notify
        self._client = client if client is not None else self._local.pop(0)()
        self._scratch = scratch
        self._open = ExitStack()
        self._file: IO[bytes] | None = None

    def close(self) -> None:
        """Close the file. Content that was fetched can't be read any more."""
        self._open.close()

    def endpoint(self) -> str:
        """Return the id of the endpoint. Raises: EndpointError."""
        return self._client.endpoint_id()

    def listed(self) -> Iterator[wire.StoredSession]:
        """Iterate all sessions with a record, the newest start first. Raises: EndpointError."""
        after: str | None = None
        while True:
            try:
                answer = self._client.sessions(after, LISTED)
            except EndpointError as error:
                if after is not None or not self._turn_to_local():
                    raise
                # This machine's sessions may be older than those that other machines have pushed.
                self._notify(f"{error}; reading what this machine has instead")
                continue
            yield from answer.sessions
            if answer.next is None or answer.next == after:
                return
            after = answer.next

    def find(self, text: str) -> list[wire.StoredSession]:
        """Return the copies of the session with this id, or this unique prefix of one; the one active last comes first.

        Raises: NotFound, EndpointError.
        """
        wanted = text.strip().lower()
        found: dict[UUID, list[wire.StoredSession]] = {}
        for stored in self.listed():
            if wanted and str(stored.record.id).startswith(wanted):
                found.setdefault(stored.record.id, []).append(stored)
        if not found and self._turn_to_local():
            return self.find(text)
        if not found:
            raise NotFound(f"no session {text!a} at the endpoint", hint="`sessiond resume --all` lists sessions")
        if len(found) > 1:
            some = ", ".join(str(each) for each in list(found)[:3])
            raise NotFound(f"several sessions start with {text!a}: {some}", hint="give more characters of the id")
        return sorted(*found.values(), key=last_active, reverse=True)

    def copy(self, machine_id: str, identity: UUID) -> wire.StoredSession | None:
        """Return what the endpoint has of a session from one machine; None if nothing. Raises: EndpointError."""
        try:
            return self._client.session(machine_id, identity)
        except NotFound:
            return None

    def _turn_to_local(self) -> bool:
        """Use the next thing that this machine has from now on; return whether there is one."""
        if not self._local:
            return False
        self._client = self._local.pop(0)()
        return True

    def relatives(self, stored: wire.StoredSession, recipe: Recipe) -> Iterator[ArchivedSession]:
        """Iterate over the sessions that come along: the parents of a fork, the oldest first, then subagents.

        Raises: NotFound, EndpointError.
        """
        if not recipe.children and not (recipe.parents and stored.parent):
            return
        every: dict[UUID, list[wire.StoredSession]] = {}
        for each in self.listed():
            if each.record.tool == stored.record.tool:
                every.setdefault(each.record.id, []).append(each)
        known = {identity: latest(copies) for identity, copies in every.items()}
        found: dict[UUID, wire.StoredSession] = {}
        above = stored.parent if recipe.parents else None
        while above is not None and above in known and above not in found and above != stored.record.id:
            found[above] = known[above]
            above = known[above].parent
        yield from map(self.fetch, reversed(found.values()))
        callers = [stored.record.id] if recipe.children else []
        while callers:
            found |= {each: known[each] for each in callers if each in known}
            below = [each for each in known if known[each].parent in callers and each not in found]
            callers = []
            for session in map(self.fetch, map(known.__getitem__, below)):
                if recipe.is_subagent(session):
                    callers.append(session.record.id)
                    yield session

    def fetch(self, stored: wire.StoredSession) -> ArchivedSession:
        """Copy all streams of a session. A record at the end that is not complete is left out.

        Raises: NotFound, EndpointError.
        """
        machine = stored.record.machine_id or ""
        streams = self._client.streams(machine, stored.record.id)
        found = tuple(self._copy(machine, stored.record.id, stream) for stream in streams)
        return ArchivedSession(record=stored.record, title=stored.title, streams=found, parent=stored.parent)

    def _copy(self, machine: str, session: UUID, stream: wire.StoredStream) -> ArchivedStream:
        current = stream.generations[-1]
        if self._file is None:
            self._file = self._open.enter_context(tempfile.TemporaryFile(dir=self._scratch))  # noqa: SIM115 - see `close`
        file, start = self._file, self._file.seek(0, os.SEEK_END)
        length = end = 0
        for piece in self._client.stream(
            machine, session, stream.name, generation=current.generation, end=current.length
        ):
            file.write(piece)
            newline = piece.rfind(b"\n")
            end = length + newline + 1 if newline >= 0 else end
            length += len(piece)
        if length != current.length:
            raise EndpointError(f"the endpoint returned {length} of {current.length} bytes of stream {stream.name!a}")
        file.flush()
        if stream.media_type == RECORDS:
            length = end
        return ArchivedStream(
            name=stream.name, media_type=stream.media_type, length=length, read=_reader(file, start, length)
        )


def latest(*copies: Iterable[wire.StoredSession]) -> wire.StoredSession:
    """Return the copy of a session that was active last: a continued session is at the endpoint once per machine."""
    return max((each for group in copies for each in group), key=last_active)


def last_active(stored: wire.StoredSession) -> datetime:
    """Return the last activity: of an ongoing session, when its record was last pushed."""
    return stored.record.ended_at or datetime.fromtimestamp(min(stored.revision / 1000, 4e9), UTC)


def missing(stored: wire.StoredSession) -> int:
    """Return how many bytes of the transcripts had not been pushed when the record was."""
    held = {each.name: each for each in stored.held}
    lengths = 0
    for each in stored.streams:
        there = held.get(each.name)
        if there is None or there.generation < each.generation:
            lengths += each.length
        elif there.generation == each.generation:
            lengths += max(0, each.length - there.length)
    return lengths


def _reader(file: IO[bytes], start: int, length: int) -> Callable[[], Iterator[bytes]]:
    """Return a function that iterates some bytes of a file, each time from `start`."""

    def read() -> Iterator[bytes]:
        position = 0
        while position < length:
            piece = os.pread(file.fileno(), min(PIECE, length - position), start + position)
            if not piece:
                return
            position += len(piece)
            yield piece

    return read
