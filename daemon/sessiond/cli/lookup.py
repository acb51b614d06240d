"""Shared by commands that read the spool: open it, find a session by a prefix of its id."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from sessiond import state
from sessiond.cli.output import load_config
from sessiond.config import Config, state_dir
from sessiond.errors import NotFound
from sessiond.spool import NAME, Spool
from sessiond.spool.health import read_endpoint
from sessiond.spool.rows import SessionState

SHORT = 8
"""The minimum number of characters of an id to show."""


def endpoint_url(spool: Spool, config: Config) -> str:
    """Return the endpoint whose acknowledgements count, "" for the built-in archive.

    The endpoint of a running daemon comes before the configured one: the daemon has its own environment.
    """
    endpoint = read_endpoint(spool)
    if state.running(state_dir(config)) is not None and (endpoint.url or endpoint.archive):
        return "" if endpoint.archive else endpoint.url
    return config.endpoint.url


def nothing_captured() -> NotFound:
    """Return the error of a command that needs something captured on a machine where nothing is yet."""
    return NotFound(
        "nothing has been captured on this machine yet",
        hint="capture now: sessiond run; or set it up as a service: sessiond init",
    )


@contextmanager
def opened(args: argparse.Namespace, *, readonly: bool = True) -> Iterator[tuple[Spool, Config]]:
    """Open the configured spool. If it is only read, an error in the configuration is a warning.

    Raises: NotFound if there is no spool yet, StateError, ConfigError.
    """
    config = load_config(args, valid=readonly).config
    directory = state_dir(config)
    if not os.path.exists(os.path.join(directory, NAME)):
        raise nothing_captured()
    spool = Spool(directory, readonly=readonly)
    try:
        yield spool, config
    finally:
        spool.close()


@contextmanager
def opened_if_any(config: Config) -> Iterator[Spool | None]:
    """Open the spool to read it; None if nothing was captured on this machine yet. Raises: StateError."""
    directory = state_dir(config)
    if not os.path.exists(os.path.join(directory, NAME)):
        yield None
        return
    spool = Spool(directory, readonly=True)
    try:
        yield spool
    finally:
        spool.close()


def check_tool(name: str, stored: Collection[str] = ()) -> None:
    """Check the name of a tool; `stored` are further tools to accept, of sessions that are in the spool.

    Raises: UsageError with the most similar name as the hint.
    """
    from sessiond.cli import UsageError
    from sessiond.config.check import did_you_mean
    from sessiond.sources import find_sources

    known = {source.tool for source in find_sources()} | set(stored)
    if name not in known:
        hint = did_you_mean(name, sorted(known)) or "`sessiond sources` lists the tools"
        raise UsageError(f"unknown tool {name!a}", hint=hint)


def find_session(spool: Spool, text: str, hint: str = "`sessiond ls` lists them") -> SessionState:
    """Return the session with this id, or this unique prefix of an id. Raises: NotFound, with this hint if none has."""
    wanted = text.strip().lower()
    found = spool.stats.ids(wanted) if wanted else []
    if len(found) == 1:
        session = spool.catalog.session(found[0])
        assert session is not None
        return session
    if found:
        some = ", ".join(str(each) for each in found[:3])
        raise NotFound(f"several sessions start with {text!a}: {some}", hint="give more characters of the id")
    raise NotFound(f"no session {text!a}", hint=hint)


def short_ids(spool: Spool | None, ids: Collection[str]) -> dict[str, str]:
    """Map each id to a prefix that is unique among these ids and those in the spool; all have the same length."""
    length = SHORT if spool is None else spool.stats.id_length(SHORT)
    while len({each[:length] for each in ids}) < len(set(ids)):
        length += 1
    return {each: each[:length] for each in ids}


def notify_daemon(directory: str) -> bool:
    """Make a running daemon scan and push now. Return False if no daemon runs."""
    import signal  # late: most commands that read don't need it

    holder = state.running(directory)
    if holder is None or not holder.pid:
        return False
    with suppress(ProcessLookupError):
        os.kill(holder.pid, signal.SIGUSR1)
    return True
