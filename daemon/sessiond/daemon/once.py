"""Once: capture all there is and push it, in this process, for `sync` where no daemon runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack

import msgspec

from sessiond import state
from sessiond.config import Loaded, state_dir
from sessiond.daemon.archive import Archive
from sessiond.daemon.capturing import Capturing
from sessiond.daemon.orders import give
from sessiond.daemon.pushing import Cause, Pushing
from sessiond.daemon.rooms import Rooms, open_rooms
from sessiond.ingest.backlog import catch_up
from sessiond.logs import hide
from sessiond.sources.base import UserDirs
from sessiond.spool import Spool
from sessiond.spool.health import EndpointHealth, read_capture, read_endpoint
from sessiond.spool.stats import ToolCount, Totals, Trouble, Waiting
from sessiond.watch import Watcher

LOOKS = 8
LOOK_AGAIN = 0.5
"""How often, and after how many seconds, files that are met in a rewrite are looked at again."""
ROUNDS = 1000
"""Of pushing and reading on: an endpoint that contradicts itself must not keep us busy for ever."""
SHOWN = 3


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """How far everything is: what `sync` ends with."""

    totals: Totals
    waiting: Waiting
    endpoint: EndpointHealth
    tools: list[ToolCount]
    troubles: list[Trouble]
    unread: int
    """Files that were found and not read to their end, since they were being rewritten."""
    paused: int | None = None
    """When the user's pause of pushing ends, as in pause.Paused."""
    left_out: int = 0
    """Files that `backfill` leaves out; they are no part of the rest."""

    @property
    def empty(self) -> bool:
        """Tell whether the endpoint has all that it will take."""
        return not self.unread and self.only_unread

    @property
    def only_unread(self) -> bool:
        """Return whether nothing is on its way beside files that are being rewritten."""
        totals, archive = self.totals, self.totals.archive
        on_its_way = totals.waiting or totals.archived or archive.pending > archive.refused
        return not (on_its_way or self.waiting.sessions or self.waiting.segments or self.waiting.behind)


def sync_once(loaded: Loaded, environ: Mapping[str, str]) -> Balance:
    """Capture all and push all, holding the lock.

    Raises: AlreadyRunning, StateError, ConfigError.
    """
    # Another `sync` may take us for a daemon and send us SIGUSR1, which would end us.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    directory = state_dir(loaded.config)
    state.prepare(directory)
    with ExitStack() as closing:
        lock = state.Lock(directory)
        closing.callback(lock.release)
        orders = give(loaded, environ)
        rooms = open_rooms(orders.config, environ)
        closing.callback(rooms.close)
        url, token = orders.config.endpoint.url, orders.token
        if not url:
            archive = Archive(directory, lambda: None)
            closing.callback(archive.stop)
            url, token = archive.url, archive.token
        if token is not None:
            hide(token.reveal())
        watcher = Watcher(rooms.watched)
        closing.callback(watcher.close)
        pushing = Pushing(rooms, url, token, lambda: None)
        closing.callback(pushing.close)
        capturing = Capturing(
            rooms, watcher, lock, captured=lambda: None, aside=lambda _: False, places=UserDirs.current(environ)
        )
        watcher.start()
        unread = _capture(capturing)
        if orders.paused.pushing is None:
            _push(rooms, pushing)
        return balance(rooms.spool, orders.config.endpoint.url, unread, orders.paused.pushing)


def balance(spool: Spool, url: str, unread: int, paused: int | None = None) -> Balance:
    """Return how far everything is. `unread`: files that were met in a rewrite, which the spool does not know.

    `url` is the endpoint that counts, "" for the built-in archive.
    """
    with spool.snapshot():
        tools = spool.stats.tools(url)
        return Balance(
            totals=spool.stats.totals(url, tools),
            waiting=spool.stats.waiting(),
            endpoint=read_endpoint(spool),
            tools=tools,
            troubles=spool.stats.troubles(SHOWN),
            unread=unread,
            paused=paused,
            left_out=read_capture(spool).left_out,
        )


def _capture(capturing: Capturing) -> int:
    torn = 0
    for attempt in range(LOOKS):
        if attempt:
            time.sleep(LOOK_AGAIN)
        torn = capturing.capture_all()
        if not torn:
            break
    return torn


def _push(rooms: Rooms, pushing: Pushing) -> None:
    """Push until nothing is left or the endpoint takes nothing; read on in what waited for room meanwhile."""
    pushing.try_sooner(Cause.USER)
    stuck: set[int] = set()
    for _ in range(ROUNDS):
        if pushing.push_all():
            continue
        if read_endpoint(rooms.spool).next_attempt_ms is not None or not catch_up(rooms.ingest, limit=16, stuck=stuck):
            return
