"""Watches the files of the configuration and the token, and detects when an edit is finished."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from sessiond.config import Loaded
from sessiond.directories import config_file
from sessiond.sources.base import Root, Watch
from sessiond.watch import WatchedRoot

CONFIG = "config"
"""Owner of the watched directories of the configuration and the token."""
QUIET = 0.2
"""Seconds without a change after which an edit counts as finished."""
EMPTY_QUIET = 3.0
"""Seconds until an emptied or removed file is reported. An empty file is never applied without `sessiond reload`."""

Stamp = tuple[int, int, int]


class ConfigWatch:
    """The files whose edits are applied at once. Only the main thread uses it, except for `has`, which any may call."""

    def __init__(
        self, loaded: Loaded, environ: Mapping[str, str], file: str | None, before: ConfigWatch | None = None
    ) -> None:
        """`before` has the state of the files when `loaded` was read; an edit since then is still to be applied.

        Without it that state is unknown. `note_change` then reports an edit, so that the files are read once more.
        """
        self._main = os.path.abspath(file or environ.get("SESSIOND_CONFIG") or config_file())
        self._files = {self._main, *loaded.files}
        endpoint = loaded.config.endpoint
        self._files |= {path for path in (endpoint.token_file, endpoint.ca_file) if path}
        self._folder = os.path.join(os.path.dirname(self._main), "config.d")
        # The files may be links into a directory of dotfiles. The change happens there.
        self._real = {os.path.realpath(path) for path in self._files}
        self._directories = {self._folder, *(os.path.dirname(path) for path in self._files | self._real)}
        # As they were read, which may differ from how they are now: a file that was emptied or removed since then must
        # not count as one that never had content. Its removal would be applied, and switch to the built-in archive.
        self._read = {path for path in loaded.files if loaded.sums.get(path)}
        self._full = self._read | {path for path in self._files - set(loaded.files) if _size(path)}
        self._seen = self._pending = self._stamps_since(before)
        self._first: float | None = None
        self._last = 0.0

    def has(self, path: str) -> bool:
        """Return whether a change of this path may be an edit. A directory counts for the files in it."""
        inside = os.path.dirname(path) == self._folder and path.endswith(".toml")
        return path in self._files or path in self._real or inside or path in self._directories

    def roots(self) -> list[WatchedRoot]:
        """Return the directories to watch."""
        return [
            WatchedRoot(root=Root(path=directory, watch=Watch.FLAT, depth=0), owner=CONFIG)
            for directory in sorted(self._directories)
        ]

    def note_change(self) -> bool:
        """Start an edit if one of the files changed; return whether an edit is not finished yet."""
        stamps = self._stamps()
        if self._first is None and stamps != self._seen:
            self._first = self._last = time.monotonic()
            self._pending = stamps
        return self._first is not None

    def due(self) -> float | None:
        """Return the seconds until `finished` should be called; None without an edit."""
        return None if self._first is None else max(0.0, self._last + QUIET - time.monotonic())

    def finished(self) -> bool:
        """Return whether an edit is finished: its files are quiet, and none was emptied just now.

        An editor truncates a file before it writes it. Reading it in between would apply an empty configuration.
        """
        if self._first is None:
            return False
        now, stamps = time.monotonic(), self._stamps()
        if stamps != self._pending:
            self._pending, self._last = stamps, now
            return False
        if now < self._last + QUIET:
            return False
        if self.emptied() and now < self._first + EMPTY_QUIET:
            self._last = now
            return False
        self._first = None
        self._seen = stamps
        return True

    def emptied(self) -> str | None:
        """Return a file that was emptied or removed, None if there is none. Files in config.d may be removed."""
        for path in sorted(self._full):
            if not _size(path) and (os.path.dirname(path) != self._folder or os.path.exists(path)):
                return path
        return None

    def emptied_in(self, loaded: Loaded) -> str | None:
        """Return a file of the configuration that had content and was empty or missing when `loaded` was read."""
        for path in sorted(self._read):
            if not loaded.sums.get(path) and (os.path.dirname(path) != self._folder or path in loaded.sums):
                return path
        return None

    def _stamps_since(self, before: ConfigWatch | None) -> dict[str, Stamp]:
        if before is None:
            return {}
        stamps = self._stamps()
        # A file that was not watched before may have changed since it was read, or was not read at all: it came just
        # after the others were listed. It counts as an edit, so that it is read once more.
        return {path: stamp for path, stamp in before._seen.items() if path in self._files or path in stamps}

    def _stamps(self) -> dict[str, Stamp]:
        try:
            parts = [os.path.join(self._folder, name) for name in os.listdir(self._folder) if name.endswith(".toml")]
        except OSError:
            parts = []
        return {path: stamp for path in (*self._files, *parts) if (stamp := _stamp(path))}


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_ctime_ns  # a chmod changes it too: a token file may become readable


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
