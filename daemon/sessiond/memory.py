"""Keeping memory small: importing libraries without what they draw on a terminal with, and giving back what is free."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hide_modules(*names: str) -> Iterator[None]:
    """Let imports inside meet these modules as not installed, unless they are loaded already.

    httpx imports its command line where click and rich are installed, and structlog imports rich for tracebacks:
    together 10 MB of memory and 0.1 s for what is never used.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment] # the import system then raises ModuleNotFoundError
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def trim_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it otherwise (glibc)."""
    import ctypes  # late: `status` imports this module, and no memory of it is worth that

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
