"""Caches in files what takes long to compute from the rules: the compiled database, and the shape of each rule."""

from __future__ import annotations

import contextlib
import os
from hashlib import blake2b

from sessiond.atomic import atomic_write


def read(path: str) -> bytes | None:
    """Return the content of a cached file; None unless this user alone can write it and it is whole.

    Hyperscan trusts what it loads, so a file that others could have written is not loaded. A digest at its beginning
    detects a damaged file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            return None
        content = file.read()
    return content[32:] if blake2b(content[32:], digest_size=32).digest() == content[:32] else None


def store(path: str, content: bytes) -> None:
    """Write a cached file. If that fails, the next start computes its content again, which takes a second."""
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        atomic_write(path, blake2b(content, digest_size=32).digest() + content)
