"""Hard links that keep a file which waits for room in the outbox, whatever its tool does to it (rule 5)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from hashlib import blake2b


class Pins:
    """The directory of pins, in the state directory; a link costs no bytes."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)

    def settle(self, path: str, stream: int, *, needed: bool, old: str | None) -> str | None:
        """Make or remove the pin of a stream's file as needed; return its name, or None where there is none.

        None although it is needed means that the file is unprotected: another filesystem, or a system
        that allows no such link.
        """
        if not needed:
            if old is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path(old))
            return None
        name = f"{stream}-{blake2b(os.fsencode(path), digest_size=8).hexdigest()}"
        try:
            if old is not None and os.path.samestat(os.lstat(path), os.lstat(self.path(old))):
                return old
        except FileNotFoundError:
            pass
        fresh = self.path(f"{name}.new")
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
            os.link(path, fresh, follow_symlinks=False)
            os.replace(fresh, self.path(name))  # a tool that saves by renaming has put another file there
        except OSError:
            return old
        return name

    def sweep(self, known: Collection[str]) -> None:
        """Remove pins that nobody knows: who made them died before he could say so.

        One that is the last link to its bytes stays, whoever made it (a spool that was damaged, say).
        """
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name not in known and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        if entry.stat(follow_symlinks=False).st_nlink > 1:
                            os.unlink(entry.path)

    def path(self, name: str) -> str:
        """Say where a pin lies."""
        return os.path.join(self.directory, name)
