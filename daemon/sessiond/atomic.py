"""Replace small files of our own so that a reader, a crash or a full disk never meets half of one."""

from __future__ import annotations

import os
from contextlib import suppress

TYPE_CHECKING = False  # `status` imports this
if TYPE_CHECKING:
    from collections.abc import Iterable


def atomic_write(path: str, content: bytes | Iterable[bytes], *, mode: int = 0o600, exclusive: bool = False) -> None:
    """Write a file to a temporary name, sync it and rename it to `path`. The file has exactly `mode`.

    `content` may be an iterable of parts, so that a large file need not be in memory.

    On an error the previous file stays as it was and the temporary one is removed. With `exclusive`, a file that exists
    is not replaced.

    Raises: OSError; FileExistsError if `exclusive`.
    """
    if exclusive:
        # Reserves the name for this process. A kill before the rename leaves an empty file, which is no valid token.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        _replace(path, content, mode)
    except BaseException:
        if exclusive:
            with suppress(OSError):
                os.unlink(path)
        raise


def _replace(path: str, content: bytes | Iterable[bytes], mode: int) -> None:
    temporary = f"{path}.{os.urandom(4).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fchmod(descriptor, mode)
            # Sync before the rename: after a power cut the new name could otherwise lead to an empty file.
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
