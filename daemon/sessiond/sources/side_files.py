"""How a source declares side files: files that belong to a session and are captured byte for byte, without decoding.

Examples are the full output of a command, a pasted image, and the copy of a file from before an edit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import product

import msgspec

from sessiond.sources.root import Root, Watch

OCTETS = "application/octet-stream"
MEDIA_TYPES = {
    "csv": "text/csv",
    "diff": "text/x-diff",
    "gif": "image/gif",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "log": "text/plain",
    "md": "text/markdown",
    "output": "text/plain",
    "patch": "text/x-diff",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain",
    "webp": "image/webp",
    "yaml": "application/yaml",
    "yml": "application/yaml",
}
"""Media types by the extension of a file's name. The lines of a side file are no records, so their type is not the
default of the protocol (`application/x-ndjson`)."""

PASSING = re.compile(r"(?:\.(?:lock|pid|swp|key|part|partial)|[.~-](?:tmp|temp)[\w.-]*|~)\Z")
"""Names of files that are no part of a session: locks, keys, and files that are renamed when they are complete."""


class SideFiles(msgspec.Struct, frozen=True):
    """Some of the side files of a source."""

    pattern: str
    """A regular expression for their paths below a root.

    Group `id` is the native id of the session. Without it, the session is the one whose records mention the name of the
    file (`Entry.mentions`). Group `name` is the name of the stream; without it, that is the path.
    """
    what: str
    """What they are, for docs/sources.md."""
    folder: str = ""
    """What the name of the stream begins with besides."""
    media_type: str | None = None
    """None: by the extension."""

    def match(self, relative: str) -> tuple[str | None, str, str] | None:
        """Return the session's native id, the stream's name and its media type; None for a path of no side file."""
        found = _compiled(self.pattern).fullmatch(relative)
        if found is None or PASSING.search(relative):
            return None
        groups = found.groupdict()
        media_type = self.media_type or MEDIA_TYPES.get(relative.rpartition(".")[2].lower(), OCTETS)
        return groups.get("id"), self.folder + (groups.get("name") or relative), media_type


def in_folders(folders: Mapping[str, str], native_id: str) -> tuple[SideFiles, ...]:
    """Return the side files in folders that have a directory for each session, named by `native_id` (a pattern).

    `folders` maps the name of each to what its files are.
    """
    return tuple(
        SideFiles(rf"{folder}/(?P<id>{native_id})/(?P<name>.+)", what, f"{folder}/") for folder, what in folders.items()
    )


def side_roots(homes: Iterable[str], folders: Iterable[str], watch: Watch = Watch.TREE) -> Iterator[Root]:
    """Iterate over roots for folders that have side files only. What is below begins with the folder's name."""
    for home, folder in product(homes, folders):
        yield Root(path=f"{home}/{folder}", prefix=f"{folder}/", side=True, watch=watch)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII | re.DOTALL)
