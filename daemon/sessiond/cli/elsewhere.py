"""What the last `ls` listed of other machines, so that a shell completes their ids without asking the endpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from sessiond.atomic import atomic_write
from sessiond.cli.selection import Row, Selection
from sessiond.config import Config, state_dir
from sessiond.decoding import json_decoder

FILE = "elsewhere"
MOST = 500
"""Sessions that are kept, the newest first."""


class Known(msgspec.Struct, frozen=True):
    """A session that this machine has not captured."""

    id: str
    tool: str
    machine: str


class Listed(msgspec.Struct, frozen=True):
    """The sessions, and the endpoint that listed them."""

    url: str
    sessions: list[Known]


def remember(config: Config, selection: Selection, rows: Iterable[Row]) -> None:
    """Keep the sessions of other machines of a list without filters, in a state directory that exists.

    Completions are no reason for a list to fail, so a directory that can't be written is left as it is.
    """
    directory = state_dir(config)
    if selection.filtered or not os.path.isdir(directory):
        return
    others = [Known(str(row.record.id), row.record.tool, row.machine) for row in rows if row.number is None]
    listed = Listed(config.endpoint.url, others[:MOST])
    if listed != _read(directory):
        with suppress(OSError):
            atomic_write(os.path.join(directory, FILE), msgspec.json.encode(listed))


def remembered(config: Config) -> list[Known]:
    """Return the sessions of other machines that the configured endpoint listed last."""
    listed = _read(state_dir(config))
    return listed.sessions if listed is not None and listed.url == config.endpoint.url else []


def _read(directory: str) -> Listed | None:
    try:
        with open(os.path.join(directory, FILE), "rb") as file:
            return json_decoder(Listed).decode(file.read())
    except (OSError, msgspec.MsgspecError):
        return None
