"""The tools that sessiond reads. A module in this package that has `SOURCES` is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from sessiond.config import Config
from sessiond.sources.base import Places, Root, Source


@cache
def find_sources() -> tuple[Source, ...]:
    """Find every source, ordered by the tool's name."""
    found: list[Source] = []
    for module in pkgutil.iter_modules(__path__):
        if module.name != "base":
            found += importlib.import_module(f"{__name__}.{module.name}").SOURCES
    return tuple(sorted(found, key=lambda source: source.tool))


def find_places(config: Config, environ: Mapping[str, str]) -> list[tuple[Source, Root]]:
    """List the roots of every enabled source, the configured ones included."""
    here = Places.here(environ)
    places: list[tuple[Source, Root]] = []
    for source in find_sources():
        settings = config.sources.get(source.tool)
        if settings is not None and not settings.enabled:
            continue
        places += [(source, root) for root in source.roots(here)]
        if settings is not None:
            places += [(source, Root(path=path)) for path in settings.roots]
    unique = {(source, root.path): (source, root) for source, root in places}
    return list(unique.values())
