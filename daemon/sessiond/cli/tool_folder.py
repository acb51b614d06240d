"""The files of a session that its tool keeps in a folder of files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from sessiond.errors import NotFound, ReadError
from sessiond.ingest import Location
from sessiond.ingest.files import list_folder
from sessiond.reader import open_regular
from sessiond.text import count, escape

LISTED = 10
"""Files that are listed to choose from."""
PIECE = 1 << 20
"""Bytes that are read at once."""


def folder_bytes(folder: Location, name: str) -> Iterator[bytes]:
    """Iterate the bytes of a file of a folder. Raises: ReadError."""
    try:
        descriptor = open_regular(folder.root, f"{folder.below}/{name}")
    except OSError as error:
        raise ReadError(f"{folder.path}/{name}: {(error.strerror or 'unreadable').lower()}") from error
    with open(descriptor, "rb") as file:
        while piece := file.read(PIECE):
            yield piece


def choose_file(folder: Location, session: str) -> NotFound:
    """Return the error for a folder of which no file was chosen. Its hint has the command and the files."""
    names = list_folder(folder)[0]
    lines = [f"sessiond show {session} --from tool --raw FILE, where FILE is one of these:"]
    lines += [escape(shlex.quote(name)) for name in names[:LISTED]]
    if len(names) > LISTED:
        lines.append(f"and {len(names) - LISTED} more in {escape(folder.path)}")
    number = count(len(names), "file")
    return NotFound(f"the tool keeps this session in a folder of {number}: choose one", hint="\n".join(lines))
