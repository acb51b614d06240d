"""Finds the sources and their roots. A module of this package that has `SOURCES` is found automatically."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache

from sessiond.config import Config
from sessiond.sources.base import Root, Source, UserDirs, Watch


@cache
def find_sources() -> tuple[Source, ...]:
    """Return every source, ordered by the tool's name."""
    found: list[Source] = []
    for module in pkgutil.iter_modules([os.path.dirname(__file__)]):
        found += getattr(importlib.import_module(f"sessiond.sources.{module.name}"), "SOURCES", ())
    return tuple(sorted(found, key=lambda source: source.tool))


def find_roots(config: Config, environ: Mapping[str, str], *, enabled: bool = True) -> list[tuple[Source, Root]]:
    """Return the roots of every source that is enabled (or that is not), including those from the configuration."""
    dirs = UserDirs.current(environ)
    places: list[tuple[Source, Root]] = []
    for source in find_sources():
        settings = config.sources.get(source.tool)
        if enabled != (settings is None or settings.enabled):
            continue
        places += [(source, root) for root in source.roots(dirs)]
        if settings is not None:
            places += [(source, Root(path=path)) for path in settings.roots]
    unique = {(source, root.path): (source, root) for source, root in places}
    return list(unique.values())


GUARDED = ("Documents", "Desktop", "Downloads", "Library")
"""Directories in a macOS home for which the system asks the user for permission, even if they are only listed."""


def find_project_roots(
    config: Config, environ: Mapping[str, str], directories: Iterable[str]
) -> list[tuple[Source, Root]]:
    """Return the roots of sources that keep sessions in projects: the directories that contain their landmark.

    `directories` are the working directories of sessions. Their parents are searched too, because a project may begin
    further up; the home itself is never searched.
    """
    dirs, found = UserDirs.current(environ), dict[str, None]()
    for directory in directories:
        path = directory.rstrip("/")
        while path.startswith(dirs.home.rstrip("/") + "/") and path not in found:
            if dirs.platform != "darwin" or path[len(dirs.home) :].split("/")[1] not in GUARDED:
                found[path] = None
            path = os.path.dirname(path)
        if os.path.isabs(path) and path != dirs.home:
            found[path] = None
    return [
        (source, Root(path=path, watch=Watch.FLAT, depth=0, cwd=path))
        for source in find_sources()
        if source.landmark and ((settings := config.sources.get(source.tool)) is None or settings.enabled)
        for path in found
        if os.path.lexists(os.path.join(path, source.landmark))
    ]


def find_variables() -> list[str]:
    """Return the environment variables that decide where tools keep their sessions, in the order of the tools."""
    return list(dict.fromkeys(variable for source in find_sources() for variable in source.variables))
