"""The tools that sessiond reads. A module in this package that has `SOURCES` is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from sessiond.sources.base import Source


@cache
def find_sources() -> tuple[Source, ...]:
    """Find every source, ordered by the tool's name."""
    found: list[Source] = []
    for module in pkgutil.iter_modules(__path__):
        if module.name != "base":
            found += importlib.import_module(f"{__name__}.{module.name}").SOURCES
    return tuple(sorted(found, key=lambda source: source.tool))
