"""`sessiond sync`: capture all and push all, once; exit 0 when the outbox is empty."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from sessiond.errors import AlreadyRunning, EndpointError, Refused, SessiondError, StateError

if TYPE_CHECKING:
    from sessiond.config import Loaded
    from sessiond.daemon.once import SyncResult
    from sessiond.spool import Spool

POLL = 0.1
"""Seconds between two looks at what a running daemon has done."""
DEGRADED = 4


class Incomplete(SessiondError):
    """The endpoint took what it could, and something is left: parked, unreadable, or out of time."""

    exit_code = DEGRADED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = (
        "Look at every tool's sessions, capture what is new and push it to the endpoint. Where the daemon runs, it"
        " does the work and this waits for it."
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="TIME", help='wait so long for a running daemon ("90s", "5m"; no limit)'
    )


def run(args: argparse.Namespace) -> int:
    """Sync; 0 when the endpoint has everything. Raises: SessiondError."""
    from sessiond.cli.bar import drawing
    from sessiond.cli.output import load_config
    from sessiond.config import state_dir
    from sessiond.daemon.once import sync_once
    from sessiond.sources import find_sources

    loaded = load_config(args, tools=[source.tool for source in find_sources()])
    until = None if args.timeout is None else time.monotonic() + args.timeout
    with drawing(sys.stderr, args.environ, state_dir(loaded.config), ending=False):
        while True:
            try:
                sync_result = sync_once(loaded, args.environ)
                break
            except AlreadyRunning:
                waited = _wait(loaded, until)
                if waited is not None:
                    sync_result = waited
                    break  # else the other one ended: now it is our turn
    return _judge(sync_result)


def _wait(loaded: Loaded, until: float | None) -> SyncResult | None:
    """Let the running daemon do it; None if it ended. Raises: Incomplete."""
    from sessiond import state
    from sessiond.config import state_dir
    from sessiond.spool import Spool

    directory = state_dir(loaded.config)
    holder = state.running(directory)
    try:
        if holder is None or not holder.pid:
            raise ProcessLookupError  # it ends or begins just now
        spool = Spool(directory, readonly=True)
        try:
            return _watch(spool, directory, holder.pid, until)
        finally:
            spool.close()
    except (ProcessLookupError, StateError):
        time.sleep(POLL)
        return None


def _watch(spool: Spool, directory: str, pid: int, until: float | None) -> SyncResult | None:
    """Ask the daemon to look at everything and to push, and wait until it has or can't."""
    from sessiond import pause, state
    from sessiond.daemon.once import SCAN_ATTEMPTS, SCAN_RETRY_SECONDS, sync_result
    from sessiond.spool.health import read_capture, read_endpoint

    before = read_endpoint(spool)
    asked_ms = time.time_ns() // 1_000_000
    os.kill(pid, signal.SIGUSR1)
    while state.running(directory) is not None:
        capture = read_capture(spool)
        paused = pause.read(directory, time.time_ns() // 1_000_000).pushing
        endpoint = read_endpoint(spool)  # the daemon's: it has an environment of its own
        now = sync_result(spool, "" if endpoint.archive else endpoint.url, capture.torn, paused)
        looked = capture.pid == pid and (capture.looked_ms or 0) >= asked_ms and not capture.backlog
        failed = now.endpoint.failing_since_ms is not None and now.endpoint != before  # since it was asked to
        given_up = (
            now.only_unread and time.time_ns() // 1_000_000 - asked_ms > SCAN_ATTEMPTS * SCAN_RETRY_SECONDS * 1000
        )
        if failed or (looked and (now.empty or given_up or paused is not None)):
            return now
        if until is not None and time.monotonic() > until:
            raise Incomplete("not everything is pushed yet", hint="`sessiond status` shows how it goes")
        time.sleep(POLL)
    return None


def _judge(sync_result: SyncResult) -> int:
    """Say what came of it. Raises: EndpointError, Incomplete."""
    from sessiond import pause
    from sessiond.cli.output import count

    endpoint, waiting = sync_result.endpoint, sync_result.waiting
    if sync_result.paused is not None and not sync_result.empty:
        what = f"pushing is paused {pause.until(sync_result.paused)}: {_words(sync_result, sync_result.unread)}"
        raise Incomplete(what, hint="`sessiond resume` ends the pause")
    if endpoint.failing_since_ms is not None:
        kind = Refused if endpoint.kind == "refused" else EndpointError
        raise kind(endpoint.reason or "the endpoint takes nothing", hint=endpoint.hint)
    if waiting.parked:
        hint = "`sessiond queue` says why"
        raise Incomplete(f"{count(waiting.parked, 'item')} parked: the endpoint will not take them", hint=hint)
    totals = sync_result.totals
    if totals.archive.refused:
        what = f"{count(totals.archive.refused, 'session')} of the built-in archive: {totals.archive.reason}"
        raise Incomplete(f"the endpoint will not take {what}", hint="the archive keeps them")
    if totals.lost:
        what = f"{count(totals.lost, 'session')} incomplete: {totals.lost_bytes} bytes are in no place any more"
        raise Incomplete(what, hint="`sessiond queue` lists them; `sessiond queue drop ID` accepts the loss")
    troubled = sum(tool.troubled for tool in sync_result.tools)
    if troubled:
        named = "; ".join(f"{trouble.path}: {trouble.reason}" for trouble in sync_result.troubles)
        raise Incomplete(f"{count(troubled, 'file')} can't be read: {named}", hint="`sessiond sources` lists them")
    if not (sync_result.empty and totals.complete):
        raise Incomplete(f"not all could be captured and pushed: {_words(sync_result, sync_result.unread)}")
    left_out = f"; {count(sync_result.left_out, 'file')} left out by backfill" if sync_result.left_out else ""
    done = "all acknowledged"
    if totals.dropped:
        done = f"{totals.acknowledged} acknowledged; {totals.dropped} with parts that you dropped"
    print(f"{count(totals.captured, 'session')}, {done}{left_out}")
    return 0


def _words(sync_result: SyncResult, unread: int) -> str:
    from sessiond.cli.output import count

    waiting = sync_result.waiting
    left = f"{count(waiting.sessions, 'record')} and {count(waiting.segments, 'segment')} to push"
    archive = sync_result.totals.archive.pending
    more = f", {count(archive, 'session')} of the built-in archive to copy" if archive else ""
    return f"{count(unread, 'file')} to read, {left}{more}"


def _seconds(text: str) -> float:
    from sessiond.config.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text!a} is not a time such as "90s" or "5m"') from error
