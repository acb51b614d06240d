"""Recognizes files below a root that look like sessions and that their source does not read.

A new version of a tool may name its sessions differently, and users copy them. Nothing of such a file is captured, so
`sources` and `status` show it.
"""

from __future__ import annotations

import re
from functools import cache

from sessiond.sources.base import Kind, Root, Source
from sessiond.sources.side_files import PASSING

SESSIONS = (Kind.LINES, Kind.DOCUMENT, Kind.FOLDER, Kind.DATABASE)
SYSTEM_FILES = re.compile(r"(?:.*/)?(?:\._[^/]*|\.DS_Store|Thumbs\.db|desktop\.ini)", re.DOTALL)
"""Files that macOS and Windows add to any directory."""


def looks_like_session(source: Source, root: Root, relative: str) -> bool:
    """Return whether a file that is no unit of the source looks like one of its sessions.

    `relative` is the path below the root. Files in a root that is a project never count: they are the project's own. In
    a root for side files every file counts: what the source knows there has a unit.
    """
    if root.path == root.cwd or not relative.startswith(root.only):
        return False
    if root.prefix:
        only = root.only if isinstance(root.only, str) else ""
        relative = root.prefix + relative[len(only) :]
    if PASSING.search(relative) or SYSTEM_FILES.fullmatch(relative):
        return False
    if any(_compiled(each).fullmatch(relative) for each in source.other_files):
        return False
    if not root.side and not _compiled(source.session_like).fullmatch(relative):
        return False
    return root.side_files or not any(files.match(relative) for files in source.side_files)


def resembles_unit(source: Source, root: Root, relative: str) -> bool:
    """Return whether a file in a directory that is not searched would be a session in one that is.

    `relative` is the path below the root. Directories in a row are left out of it, as if the file were nearer to the
    root: many of these directories belong to other programs, so only the names that sessions have count.
    """
    if root.side or root.cwd or PASSING.search(relative):
        return False
    if any(_compiled(each).fullmatch(root.prefix + relative) for each in source.other_files):
        return False
    parts = relative.split("/")
    return any(
        (unit := source.unit(root.prefix + "/".join(parts[:first] + parts[last:]))) and unit.kind in SESSIONS
        for last in range(1, len(parts))
        for first in range(last)
    )


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII | re.DOTALL)
