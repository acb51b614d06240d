"""Hard links that keep a file until all of it is in the outbox, even if its tool deletes it (rule 5)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from hashlib import blake2b


class Pins:
    """The directory of pins, in the state directory. A link takes no space of its own."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)

    def settle(self, path: str, stream: int, *, needed: bool, old: str | None) -> str | None:
        """Create or remove the pin of a stream's file as needed; return its name, or None if there is none.

        None although a pin is needed means that the file is unprotected: it is on another filesystem, or the system
        does not allow the link.
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
            os.replace(fresh, self.path(name))  # replaces the pin of a file that its tool saved by renaming
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)  # if the pin was the same file already, the line above did nothing
        except OSError:
            return old
        return name

    def sweep(self, known: Collection[str]) -> None:
        """Remove pins that the spool does not know: their daemon was killed before it could store them.

        A pin that is the last link to its bytes stays: it may belong to a spool that was damaged and set aside.
        """
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name not in known and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        if entry.stat(follow_symlinks=False).st_nlink > 1:
                            os.unlink(entry.path)

    def path(self, name: str) -> str:
        """Return the path of a pin."""
        return os.path.join(self.directory, name)
