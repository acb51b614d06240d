"""Exclusion of projects, by globs in the configuration or by a file in the project itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from hashlib import blake2b
from stat import S_ISREG

IGNORE = ".sessiondignore"
"""A file of this name excludes its directory and everything below it; its content does not matter."""


class Exclusion:
    """Decides whether a working directory is excluded."""

    def __init__(self, globs: Sequence[str] = (), home: str = "/") -> None:
        """`globs` come from the configuration. `~/` is the home directory, and a name without a slash matches any
        directory of that name. A glob excludes everything below its matches too."""
        self._paths: list[str] = []
        self._names: list[str] = []
        for glob in globs:
            plain = glob.rstrip("/")
            while plain.endswith("/**"):
                plain = plain[:-3]
            if plain == "~" or plain.startswith("~/"):
                plain = home + plain[1:]
            (self._paths if "/" in plain or not plain else self._names).append(plain)
        self._ignoring: set[str] = set()
        self.version = blake2b("\0".join(sorted(globs)).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        """Changes with the globs."""

    @property
    def in_use(self) -> bool:
        """Whether any directory may be excluded, as far as known."""
        return bool(self._paths or self._names or self._ignoring)

    def excludes(self, directory: str | None) -> bool:
        """Return whether a working directory is excluded; an unknown one is not."""
        return self.excludes_any([directory] if directory else [])

    def excludes_any(self, directories: Iterable[str]) -> bool:
        """Return whether any of these working directories is excluded; each common parent is checked once."""
        asked = set[str]()
        for directory in directories:
            for above in _upwards(directory):
                if above in asked:
                    break
                asked.add(above)
                if self._fits(above) or self._ignored(above):
                    return True
        return False

    def lifted(self) -> bool:
        """Return whether a file that excluded something was deleted since the last call."""
        gone = {directory for directory in self._ignoring if not _ignores(directory)}
        self._ignoring -= gone
        return bool(gone)

    def _ignored(self, directory: str) -> bool:
        found = _ignores(directory)
        if found:
            self._ignoring.add(directory)
        return found

    def _fits(self, directory: str) -> bool:
        name = os.path.basename(directory)
        return any(fnmatchcase(directory, glob) for glob in self._paths) or any(
            fnmatchcase(name, glob) for glob in self._names
        )


def _upwards(directory: str) -> Iterator[str]:
    # Tools on Windows and in containers name directories of another file system: they match globs and have no file.
    directory = directory.replace("\\", "/").rstrip("/")
    while directory:
        yield directory
        directory = directory.rpartition("/")[0]


def _ignores(directory: str) -> bool:
    """Return whether a directory has the file that excludes it.

    The file's owner must be the user or root, because anybody can create one in /tmp.
    """
    path = f"{directory}/{IGNORE}"
    try:
        if not os.access(path, os.F_OK):  # usually missing; with ten thousand directories, exceptions cost time
            return False
        found = os.lstat(path)
    except (OSError, ValueError):  # ValueError: a NUL byte, from a damaged record
        return False
    return S_ISREG(found.st_mode) and found.st_uid in (os.geteuid(), 0)
