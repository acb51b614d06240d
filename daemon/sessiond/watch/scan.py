"""Scans a root: every regular file below it, by scandir."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from sessiond.sources.base import Root, Watch

Found: TypeAlias = tuple[str, os.stat_result]
"""A regular file: its path below `Root.path` (surrogateescape), and its lstat."""


class ScanStats:
    """The directories of a scan."""

    __slots__ = ("directories", "links", "passed_over", "unreadable")

    def __init__(self) -> None:
        self.directories: dict[int, str] = {}
        """Inode and path of each directory that was read."""
        self.unreadable: list[str] = []
        """Directories that could not be read. Each scan tries again."""
        self.links: list[str] = []
        """Symbolic links. The scan does not follow them; see sources/links.py."""
        self.passed_over: list[str] = []
        """Directories that were not read: their name is skipped, or they are too deep. Not those of a flat root."""


def scan(root: Root, below: str = "", stats: ScanStats | None = None) -> Iterator[Found]:
    """Iterate the regular files of a root, or of the directory `below` (relative to it).

    Symbolic links are not followed, except for the root itself; `stats` has them. Files that vanish during the scan are
    skipped, and a directory that can't be read is recorded in `stats`. Neither stops the scan. A missing root has no
    files.
    """
    stats = ScanStats() if stats is None else stats
    deepest = 0 if root.watch is Watch.FLAT else root.depth
    skip, only = root.skip, root.only
    start = f"{root.path.rstrip('/')}/{below}" if below else root.path
    try:
        pending = [(start, os.stat(start).st_ino, below.count("/") + 1 if below else 0)]
    except OSError:
        return
    while pending:
        directory, inode, level = pending.pop()
        if level > deepest:
            if root.watch is not Watch.FLAT:
                stats.passed_over.append(directory)
            continue
        try:
            entries = os.scandir(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            stats.unreadable.append(directory)
            continue
        stats.directories[inode] = directory
        with entries:
            try:
                for entry in entries:
                    if only and not entry.name.startswith(only):
                        continue
                    if entry.is_file(follow_symlinks=False):
                        try:
                            stat = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        yield entry.path, stat
                    elif entry.is_dir(follow_symlinks=False):
                        if entry.name in skip:
                            stats.passed_over.append(entry.path)
                        else:
                            pending.append((entry.path, entry.inode(), level + 1))
                    elif entry.is_symlink():
                        stats.links.append(entry.path)
            except OSError:
                # A network filesystem may fail in the middle of a listing; the next scan tries again.
                stats.unreadable.append(directory)


class FurtherSearch:
    """Looks at the files below directories that scans passed over, some at a time: other programs may have many there.

    Nothing below them is captured. Symbolic links are not followed, and what can't be read is left out.
    """

    def __init__(self, directories: Iterable[str]) -> None:
        self._pending = deque(dict.fromkeys(directories))
        self._known = set(self._pending)

    @property
    def complete(self) -> bool:
        """Whether every directory was looked at."""
        return not self._pending

    def files(self, most: int | None = None) -> Iterator[str]:
        """Iterate the next regular files, the nearest first.

        It ends with the directory in which it has seen `most` entries. None: it goes on to the end.
        """
        seen = 0
        while self._pending and (most is None or seen < most):
            try:
                with os.scandir(self._pending.popleft()) as entries:
                    for entry in entries:
                        seen += 1
                        if entry.is_dir(follow_symlinks=False):
                            self._add(entry.path)
                        elif entry.is_file(follow_symlinks=False):
                            yield entry.path
            except OSError:
                continue

    def _add(self, directory: str) -> None:
        if directory not in self._known:  # a scan of another root passed over it as well
            self._known.add(directory)
            self._pending.append(directory)
