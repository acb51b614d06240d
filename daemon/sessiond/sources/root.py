"""Roots: the directories in which a source finds its files."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Watch(StrEnum):
    """How closely a root is watched."""

    TREE = "tree"
    """The directory and everything below it."""
    FLAT = "flat"
    """The directory alone."""
    SCAN = "scan"
    """The root is not watched, and the regular scan finds changes: for stores with thousands of directories."""


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A directory that a source watches. It need not exist."""

    path: str
    watch: Watch = Watch.TREE
    depth: int = 8
    """How many levels of directories below it are scanned."""
    skip: frozenset[str] = frozenset()
    """Names of directories without sessions, which a scan does not enter."""
    cwd: str = ""
    """The working directory of all sessions below it, for tools that keep sessions in the project."""
    registry: str = ""
    """The name of a file in it that lists further roots: when it changes, `Source.roots` is called again."""

    prefix: str = ""
    """The text that precedes a path below the root when its source is asked about the path. It is set if a link below
    another root leads here (see links.py), or if the root has side files only."""
    only: str | tuple[str, ...] = ""
    """If it is set, only files whose names begin with it are read. If a link leads here, `prefix` replaces it."""
    origins: tuple[tuple[str, str], ...] = ()
    """If a link leads here: the path and the prefix of the root that has the link, then those of that root's origins. A
    session's other files may be there (see `resolve`)."""
    side: bool = False
    """Whether it has side files only, and no sessions."""
    side_files: bool = True
    """Whether side files below it are captured."""

    def resolve(self, name: str) -> tuple[str, str]:
        """Return (directory, path below it) for a path that the source names relative to the outermost root.

        The directory is that of the nearest root that reaches the path, so no link has to be followed between the two.
        """
        here = () if self.prefix and self.only else ((self.path, self.prefix),)
        directory, prefix = next(each for each in (*here, *self.origins, (self.path, "")) if name.startswith(each[1]))
        below = name[len(prefix) :]
        while below.startswith("../"):  # above the root as its user names it, even if the root is a link
            directory, below = directory.rpartition("/")[0], below[3:]
        return directory, below

    def searches(self, path: str) -> bool:
        """Return whether a scan of the root reads the directory of a path: it is not too deep, and not skipped."""
        return self.covers(path) and self.skip.isdisjoint(path[len(self.path) :].split("/")[:-1])

    def covers(self, path: str) -> bool:
        """Return whether a scan of the root reaches a path, within its depth."""
        prefix = self.path.rstrip("/") + "/"
        depth = 0 if self.watch is Watch.FLAT else self.depth
        return path.startswith(prefix) and path.count("/", len(prefix)) <= depth
