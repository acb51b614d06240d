"""Capture and push everything once; exit with 0 when the endpoint has all of it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from sessiond import exit_codes
from sessiond.clock import now_ms
from sessiond.errors import AlreadyRunning, EndpointError, Refused, SessiondError, StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessiond.config import Loaded
    from sessiond.daemon.once import SyncResult
    from sessiond.spool import Spool

POLL = 0.1
"""Seconds between two checks of a running daemon's progress."""
REST = 10
"""The pause is at least this many times the CPU time of a check, so that the daemon gets the CPU."""


class Incomplete(SessiondError):
    """Not everything is at the endpoint: items are parked, lost, unreadable or paused, or the time is up."""

    exit_code = exit_codes.DEGRADED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Scan the sessions of all tools, capture what is new and push it to the endpoint. If the daemon is running, ask"
        " it to do this and wait until it is done."
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="TIME", help='wait at most this long for a running daemon: "90s", "5m"'
    )


def run(args: argparse.Namespace) -> int:
    """Capture and push; return 0 when the endpoint has everything. Raises: SessiondError."""
    from sessiond.cli.bar import drawing
    from sessiond.cli.output import load_config
    from sessiond.config import state_dir
    from sessiond.sources import find_sources

    loaded = load_config(args, tools=[source.tool for source in find_sources()])
    until = None if args.timeout is None else time.monotonic() + args.timeout
    with drawing(sys.stderr, args.environ, state_dir(loaded.config), summary=False):
        sync_result = synchronize(loaded, args.environ, until)
    return _judge(sync_result)


def synchronize(loaded: Loaded, environ: Mapping[str, str], until: float | None = None) -> SyncResult:
    """Capture and push in this process, or make the running daemon do it and wait; return the result.

    Raises: Incomplete if a running daemon was not done at the monotonic time `until`; StateError, ConfigError.
    """
    from sessiond.daemon.once import sync_once

    while True:
        try:
            return sync_once(loaded, environ)
        except AlreadyRunning:
            waited = _wait(loaded, until)
            if waited is not None:
                return waited  # otherwise the daemon ended: this process syncs


def _wait(loaded: Loaded, until: float | None) -> SyncResult | None:
    """Make the running daemon sync and wait for it; None if it ended. Raises: Incomplete."""
    from sessiond import state
    from sessiond.config import state_dir
    from sessiond.spool import Spool

    directory = state_dir(loaded.config)
    holder = state.running(directory)
    try:
        if holder is None or not holder.pid:
            raise ProcessLookupError  # the daemon is starting or ending
        spool = Spool(directory, readonly=True)
        try:
            return _watch(spool, directory, holder.pid, until)
        finally:
            spool.close()
    except (ProcessLookupError, StateError):
        time.sleep(POLL)
        return None


def _watch(spool: Spool, directory: str, pid: int, until: float | None) -> SyncResult | None:
    """Make the daemon scan and push, and wait until it has done so or has failed."""
    from sessiond import pause, state
    from sessiond.daemon.once import SCAN_ATTEMPTS, SCAN_RETRY_SECONDS, sync_result
    from sessiond.spool.health import read_capture_progress, read_endpoint

    before = read_endpoint(spool)
    asked_ms = now_ms()
    os.kill(pid, signal.SIGUSR1)
    while state.running(directory) is not None:
        began = time.thread_time()
        capture = read_capture_progress(spool)
        endpoint = read_endpoint(spool)  # the endpoint of the daemon, which has its own environment
        failed = endpoint.failing_since_ms is not None and endpoint != before  # since it was asked to
        looked = capture.pid == pid and (capture.looked_ms or 0) >= asked_ms and not capture.backlog
        # The result counts all that is captured: that takes time, which the daemon needs for its work.
        if failed or looked:
            paused = pause.read(directory, now_ms()).pushing
            now = sync_result(spool, "" if endpoint.archive else endpoint.url, capture.torn, paused)
            given_up = now.only_unread and now_ms() - asked_ms > SCAN_ATTEMPTS * SCAN_RETRY_SECONDS * 1000
            if failed or now.empty or given_up or paused is not None:
                return now
        if until is not None and time.monotonic() > until:
            raise Incomplete("not everything is pushed yet", hint="`sessiond status` shows the progress")
        time.sleep(max(POLL, REST * (time.thread_time() - began)))
    return None


def _judge(sync_result: SyncResult) -> int:
    """Print the result and return 0. Raises: EndpointError, Incomplete."""
    from sessiond import pause
    from sessiond.text import count

    endpoint, waiting = sync_result.endpoint, sync_result.waiting
    if sync_result.paused is not None and not sync_result.empty:
        what = f"pushing is paused {pause.until(sync_result.paused)}: {_remaining(sync_result, sync_result.unread)}"
        raise Incomplete(what, hint="`sessiond unpause` ends the pause")
    if endpoint.failing_since_ms is not None:
        kind = Refused if endpoint.kind == "refused" else EndpointError
        raise kind(endpoint.reason or "the endpoint does not accept pushes", hint=endpoint.hint)
    if waiting.parked:
        hint = waiting.parked_reason or "`sessiond queue` shows the reason"
        raise Incomplete(f"{count(waiting.parked, 'item')} parked: the endpoint refuses them", hint=hint)
    totals = sync_result.totals
    if totals.archive.problem is not None:
        raise Incomplete(totals.archive.problem, hint="`sessiond doctor` says what to do; all other sessions go on")
    if totals.archive.refused:
        what = f"{count(totals.archive.refused, 'session')} of the built-in archive: {totals.archive.reason}"
        raise Incomplete(f"the endpoint refuses {what}", hint="the archive keeps them")
    if totals.lost:
        what = f"{count(totals.lost, 'session')} incomplete: {totals.lost_bytes} bytes are lost"
        raise Incomplete(what, hint="`sessiond queue` lists them; `sessiond queue drop ID` accepts the loss")
    troubled = sum(tool.troubled for tool in sync_result.tools)
    if troubled:
        named = "; ".join(f"{trouble.path}: {trouble.reason}" for trouble in sync_result.troubles)
        raise Incomplete(f"{count(troubled, 'file')} can't be read: {named}", hint="`sessiond sources` lists them")
    if not (sync_result.empty and totals.complete):
        raise Incomplete(f"not everything is captured and pushed: {_remaining(sync_result, sync_result.unread)}")
    left_out = f"; {count(sync_result.left_out, 'file')} excluded by backfill" if sync_result.left_out else ""
    done = "all acknowledged"
    if totals.dropped:
        done = f"{totals.acknowledged} acknowledged; {totals.dropped} with parts that you dropped"
    if totals.expired:
        done = f"{totals.acknowledged} acknowledged; {totals.expired} not kept by the endpoint"
    print(f"{count(totals.captured, 'session')}, {done}{left_out}")
    return 0


def _remaining(sync_result: SyncResult, unread: int) -> str:
    from sessiond.text import count

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
        raise argparse.ArgumentTypeError(f'{text!a} is not a time like "90s" or "5m"') from error
