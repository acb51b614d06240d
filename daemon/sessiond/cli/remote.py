"""Sessions of all machines, from the configured endpoint."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from sessiond.cli.elsewhere import remember
from sessiond.cli.selection import Directory, Row, Selection, Sort
from sessiond.clock import now_ms
from sessiond.config import Config, read_token, state_dir
from sessiond.device import reader_id
from sessiond.endpoint.session_list import SessionList, Unsuitable
from sessiond.endpoint.wire import StoredSession
from sessiond.errors import NotFound, Rejected, SessiondError, Unreachable, WrongEndpoint
from sessiond.spool.safety import State, StreamSafety

if TYPE_CHECKING:
    from sessiond.endpoint.read_client import ReadClient

FORGOTTEN_MS = 86_400_000
"""Milliseconds after its last record from which on an ongoing session counts as ended: its machine may be gone."""
PAGE = 1000
SOME = 20
"""Sessions to read whose id begins like the one that is looked for."""
_ID = re.compile(r"[0-9a-f-]{1,36}")
MAX_LISTED = 200_000
"""Sessions that are read. A list without an end must not fill memory."""


def open_client(config: Config, environ: Mapping[str, str], *, timeout: float | None = None) -> ReadClient:
    """Return a client for the configured endpoint. It works on a machine on which nothing was captured yet.

    Raises: ConfigError.
    """
    from sessiond.endpoint.read_client import ReadClient  # late: importing httpx takes as long as all else of `ls`

    token = read_token(config, environ)
    endpoint = config.endpoint
    return ReadClient(
        endpoint.url,
        None if token is None else token.reveal(),
        device_id=reader_id(state_dir(config)),
        timeout=endpoint.timeout if timeout is None else min(timeout, endpoint.timeout),
        ca_file=endpoint.ca_file or None,
    )


class Question:
    """Asks the endpoint for sessions in a thread, while the command reads the spool.

    A thread, because looking up the endpoint's name can't be interrupted: the command goes on without an answer.
    """

    def __init__(self, config: Config, environ: Mapping[str, str], selection: Selection) -> None:
        """Begin to ask."""
        self.url = config.endpoint.url
        self._config, self._environ, self._selection = config, environ, selection
        self._stored: list[StoredSession] = []
        self._problem: SessiondError | None = None
        self._news, self._pages, self._done = threading.Condition(), 0, False
        threading.Thread(target=self._run, name="question", daemon=True).start()

    def answer(self, wait: float) -> list[StoredSession]:
        """Return the sessions. The first page must arrive within `wait` seconds, each further one within the timeout.

        Raises: EndpointError, ConfigError.
        """
        pages, seconds = 0, wait
        with self._news:
            while not self._done:
                if not self._news.wait_for(partial(self._has_more, pages), seconds):
                    raise Unreachable(f"{self.url} did not answer within {seconds:g} s")
                pages, seconds = self._pages, self._config.endpoint.timeout
        if self._problem is not None:
            raise self._problem
        return self._stored

    def remember(self, rows: Iterable[Row]) -> None:
        """Keep which of the rows of the list are of other machines, for completions."""
        remember(self._config, self._selection, rows)

    def _run(self) -> None:
        try:
            self._stored = self._ask()
        except SessiondError as error:
            self._problem = error
        finally:
            with self._news:
                self._done = True
                self._news.notify()

    def _ask(self) -> list[StoredSession]:
        try:
            return self._fetch(_open_list(self._config, self._environ))
        except Unsuitable:
            return self._fetch(open_client(self._config, self._environ))

    def _fetch(self, client: ReadClient | SessionList) -> list[StoredSession]:
        try:
            return fetch(client, self._selection, self._count)
        finally:
            client.close()

    def _has_more(self, pages: int) -> bool:
        return self._done or self._pages > pages

    def _count(self) -> None:
        with self._news:
            self._pages += 1
            self._news.notify()


def _open_list(config: Config, environ: Mapping[str, str]) -> SessionList:
    """Return a connection that only reads the list of sessions. Raises: Unsuitable, ConfigError."""
    token = read_token(config, environ)
    endpoint = config.endpoint
    return SessionList(
        endpoint.url,
        None if token is None else token.reveal(),
        device_id=reader_id(state_dir(config)),
        timeout=endpoint.timeout,
        ca_file=endpoint.ca_file,
    )


def fetch(client: ReadClient | SessionList, selection: Selection, counted: Callable[[], None]) -> list[StoredSession]:
    """Return the matching sessions; of a list by activity no more than its limit. `counted` is called after a page."""
    query = _query(selection)
    sorted_here = selection.sort is Sort.ACTIVE
    found: list[StoredSession] = []
    after, read = None, 0
    while True:
        limit = selection.limit if sorted_here and selection.limit and not selection.filtered else PAGE
        try:
            answer = client.sessions(after, min(limit, PAGE), query)
        except Rejected:
            if after is not None or query.keys() <= _OLD:
                raise
            # An endpoint of an earlier version knows neither the order nor some filters: read all and choose here.
            query = {name: value for name, value in query.items() if name in _OLD}
            sorted_here = False
            continue
        counted()
        read += len(answer.sessions)
        found += [each for each in answer.sessions if selection.matches(make_row(each))]
        if sorted_here and selection.limit and len(found) >= selection.limit:
            return found
        if answer.next is None:
            return found
        if not answer.sessions or read > MAX_LISTED or answer.next == after:
            raise WrongEndpoint(f"{client.url} lists sessions without an end")
        after = answer.next


_OLD = {"tool", "machine_id", "since", "text"}
"""Filters that every endpoint knows."""


def _query(selection: Selection) -> dict[str, str]:
    """Return the parameters of the request. They may match more sessions than the selection does."""
    given = {
        "tool": selection.tool,
        "machine_id": selection.machine,
        "since": _rfc3339(selection.since_ms),
        "until": _rfc3339(selection.until_ms),
        "text": _part(selection.directory),
        "branch": selection.branch,
        "model": selection.model,
        "gone": "true" if selection.only_here else None,
        "sort": "active",
    }
    return {name: value for name, value in given.items() if value is not None}


def _part(directory: Directory | None) -> str | None:
    """Return what every working directory in this one contains: its last component, since separators may differ."""
    last = "" if directory is None else directory.text.rpartition("/")[2]
    return None if last in ("", "~") or not last.isascii() else last


def _rfc3339(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def make_row(stored: StoredSession) -> Row:
    """Return a session of the endpoint as a row of a list."""
    record = stored.record
    ended = record.ended_at
    last = max(int(record.started_at.timestamp() * 1000), stored.revision)
    active_ms = last if ended is None else int(ended.timestamp() * 1000)
    complete = all(each.state is State.SAFE for each in stream_states(stored))
    return Row(
        record=record,
        name=stored.title,
        parent=stored.parent,
        active_ms=active_ms,
        ongoing=ended is None and now_ms() - active_ms < FORGOTTEN_MS,
        gone=stored.gone_at is not None,
        prompts_only=stored.prompts_only,
        state=(State.SAFE if complete else State.WAITING).word,
    )


def stream_states(stored: StoredSession) -> list[StreamSafety]:
    """Return each stream of a session with the bytes that its machine captured and that the endpoint has."""
    held = {each.name: each for each in stored.held}
    states: list[StreamSafety] = []
    for stream in stored.streams:
        has = held.get(stream.name)
        newer = has is not None and has.generation > stream.generation
        same = has is not None and has.generation == stream.generation
        safe = has.length if has is not None and (newer or same) else 0
        state = State.SAFE if newer or safe >= stream.length else State.WAITING
        states.append(StreamSafety(name=stream.name, state=state, captured=stream.length, safe=safe, lost=0))
    return states


def find_stored(client: ReadClient, text: str) -> StoredSession:
    """Return the session with this id, or this unique prefix of an id; of copies on several machines the newest.

    Raises: NotFound, EndpointError.
    """
    wanted = text.strip().lower()
    found = _beginning_with(client, wanted) if _ID.fullmatch(wanted) else []
    if not found:
        raise NotFound(f"no session {text!a}", hint="`sessiond ls` lists them")
    ids = {each.record.id for each in found}
    if len(ids) > 1:
        some = ", ".join(str(each) for each in list(ids)[:3])
        raise NotFound(f"several sessions start with {text!a}: {some}", hint="give more characters of the id")
    return max(found, key=lambda each: make_row(each).active_ms)


def _beginning_with(client: ReadClient, wanted: str) -> list[StoredSession]:
    try:
        return client.sessions(None, SOME, {"id": wanted}).sessions
    except Rejected:  # an endpoint of an earlier version can't search for ids
        found: list[StoredSession] = []
        after, read = None, 0
        while True:
            answer = client.sessions(after, PAGE)
            found += [each for each in answer.sessions if str(each.record.id).startswith(wanted)]
            read += len(answer.sessions)
            if answer.next is None:
                return found
            if not answer.sessions or read > MAX_LISTED or answer.next == after:
                raise WrongEndpoint(f"{client.url} lists sessions without an end") from None
            after = answer.next
