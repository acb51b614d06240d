"""Keeps memory use low: imports libraries without their optional parts, and returns freed memory to the system."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

TYPE_CHECKING = False  # as in `typing`, which is not imported for it: `status` imports this
if TYPE_CHECKING:
    from typing import Any


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
    """Import httpx or structlog inside without what sessiond does not use of them.

    httpx._main is its command line. Of the standard library's asyncio, structlog uses one function in its asynchronous
    methods; of idna, httpx uses two for host names with other letters than ASCII's. These two are loaded when they are
    used, which saves 34 modules at each start of the daemon.
    """
    for name in ("asyncio", "idna"):
        sys.modules.setdefault(name, _Deferred(name))
    with hide_modules("httpx._main", "rich"):
        yield


class _Deferred(ModuleType):
    """Stands for a module until one of its attributes is used. importlib's LazyLoader would load it when imported."""

    def __getattr__(self, name: str) -> Any:
        import importlib

        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def trim_memory() -> None:
    """Return freed memory to the system, where the C library (glibc) would keep it."""
    import ctypes  # imported late: `status` imports this module and never trims

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
