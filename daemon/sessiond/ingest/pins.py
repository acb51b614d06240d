"""Hard links that keep a file which waits for room in the outbox, whatever its tool does to it (rule 5)."""

from __future__ import annotations

import contextlib
import os


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
        if needed == (old is not None):
            return old
        if old is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.directory, old))
            return None
        name = f"{stream}-{os.path.basename(path)[-80:]}"
        target = os.path.join(self.directory, name)
        try:
            os.link(path, target, follow_symlinks=False)
        except FileExistsError:
            os.unlink(target)
            os.link(path, target, follow_symlinks=False)
        except OSError:
            return None
        return name

    def path(self, name: str) -> str:
        """Say where a pin lies."""
        return os.path.join(self.directory, name)
