"""Keeps memory use low: imports libraries without their optional parts, and returns freed memory to the system."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hide_modules(*names: str) -> Iterator[None]:
    """Make imports inside see these modules as not installed, unless they are loaded already.

    httpx imports its command line if click and rich are installed, structlog imports rich for tracebacks, and msgspec
    imports typing_extensions. The first two take 10 MB of memory and 0.1 s, and are never used.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment] # the import system then raises ModuleNotFoundError
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import httpx or structlog inside without what sessiond does not use of them."""
    with hide_modules("httpx._main", "rich"):
        yield


def trim_memory() -> None:
    """Return freed memory to the system, where the C library (glibc) would keep it."""
    import ctypes  # imported late: `status` imports this module and never trims

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
