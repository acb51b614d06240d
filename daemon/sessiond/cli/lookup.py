"""What commands that look into the spool share: opening it, finding a session by the head of its id."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sessiond import state
from sessiond.cli.output import load_config
from sessiond.config import Config, state_dir
from sessiond.errors import NotFound
from sessiond.spool import NAME, Spool
from sessiond.spool.health import read_endpoint
from sessiond.spool.rows import SessionState

SHORT = 8
"""Characters of an id that are shown at the least."""


def endpoint_url(spool: Spool, config: Config) -> str:
    """Return the endpoint that `Safety` is asked about, "" for the built-in archive.

    A running daemon has an environment of its own, so that its word counts; else it is the configured one.
    """
    endpoint = read_endpoint(spool)
    if state.running(state_dir(config)) is not None and (endpoint.url or endpoint.archive):
        return "" if endpoint.archive else endpoint.url
    return config.endpoint.url


@contextmanager
def opened(args: argparse.Namespace, *, readonly: bool = True) -> Iterator[tuple[Spool, Config]]:
    """Open the spool that the configuration names. Raises: NotFound where there is none yet, StateError."""
    config = load_config(args).config
    directory = state_dir(config)
    if not os.path.exists(os.path.join(directory, NAME)):
        raise NotFound("nothing has been captured yet", hint="start it: sessiond run")
    spool = Spool(directory, readonly=readonly)
    try:
        yield spool, config
    finally:
        spool.close()


def find_session(spool: Spool, text: str) -> SessionState:
    """Find a session by its id or a head of it that no other one has. Raises: NotFound."""
    wanted = text.strip().lower()
    found = spool.stats.ids(wanted) if wanted else []
    if len(found) == 1:
        session = spool.catalog.session(found[0])
        assert session is not None
        return session
    if found:
        some = ", ".join(str(each) for each in found[:3])
        raise NotFound(f"several sessions begin with {text!a}: {some}", hint="give more of the id")
    raise NotFound(f"no session {text!a}", hint="`sessiond ls` lists them")


def short_ids(spool: Spool) -> dict[str, str]:
    """Map each session's id to the shortest head, all equally long, that tells them all apart."""
    every = [str(each) for each in spool.stats.ids("")]
    length = SHORT
    while len({each[:length] for each in every}) < len(every):
        length += 1
    return {each: each[:length] for each in every}


def nudge(directory: str) -> bool:
    """Tell a running daemon to look at everything and to push now; False where none runs."""
    holder = state.running(directory)
    if holder is None or not holder.pid:
        return False
    with suppress(ProcessLookupError):
        os.kill(holder.pid, signal.SIGUSR1)
    return True
