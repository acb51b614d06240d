"""Finds the sources and their roots. A module of this package that has `SOURCES` is found automatically."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from glob import escape as glob_escape
from glob import glob

import msgspec

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
            places += [(source, root) for path in settings.roots for root in configured_roots(source, dirs, path)]
    unique = {(source, root.path): (source, root) for source, root in places}
    return [
        (source, root if keeps_side_files(config, source.tool) else msgspec.structs.replace(root, side_files=False))
        for source, root in unique.values()
        if not root.side or keeps_side_files(config, source.tool)
    ]


def find_side_roots(config: Config, environ: Mapping[str, str]) -> list[tuple[Source, Root]]:
    """Return the roots of enabled sources whose side files the configuration excludes, as if it included them."""
    if config.side_files and all(settings.side_files for settings in config.sources.values()):
        return []
    every = msgspec.structs.replace(
        config,
        side_files=True,
        sources={name: msgspec.structs.replace(each, side_files=True) for name, each in config.sources.items()},
    )
    return [(source, root) for source, root in find_roots(every, environ) if not keeps_side_files(config, source.tool)]


def keeps_side_files(config: Config, tool: str) -> bool:
    """Return whether the side files of a tool are captured."""
    settings = config.sources.get(tool)
    return config.side_files and (settings is None or settings.side_files)


def configured_roots(source: Source, dirs: UserDirs, path: str) -> list[Root]:
    """Return the roots that a user means by a directory in the configuration.

    The directory may be a root, a directory above one (another ~/.claude, or ~/.local/share of an older machine), one
    that a variable of the tool would name, or a whole home. Its layout shows which. If the layout shows nothing, the
    directory itself is a root, and so are all that its name allows.
    """
    path = path.rstrip("/") or "/"
    usual = {root.path for root in source.roots(dirs)}
    meant = [msgspec.structs.replace(dirs, environ={**dirs.environ, name: path}) for name in source.variables]
    meant.append(msgspec.structs.replace(dirs, home=path, environ={}))
    inside = {
        root.path: root
        for one in meant
        for root in source.roots(one)
        if root.path not in usual and os.path.commonpath((root.path, path)) == path
    }
    for root in _at_other_levels(source, dirs, path):
        if root.path not in usual:
            inside.setdefault(root.path, root)
    # A root of a history is left out: it is the directory above the sessions, and may exist in any layout.
    there = [root for root in inside.values() if not root.only and os.path.isdir(root.path)]
    if not there:
        return [Root(path=path), *(root for root in inside.values() if root.path != path)]
    above = {os.path.dirname(root.path) for root in there}
    return [*there, *(root for root in inside.values() if root.only and root.path in above)]


def _at_other_levels(source: Source, dirs: UserDirs, path: str) -> Iterator[Root]:
    """Iterate over the usual roots with a directory above each replaced by `path`, as ~/.pi-work replaces ~/.pi.

    Roots are returned if they exist, or if the name of `path` begins like that of the replaced directory.
    """
    name, found = os.path.basename(path), list[Root]()
    for root in source.roots(dirs):
        parts = root.path.removeprefix(f"{dirs.home}/").split("/") if root.path.startswith(f"{dirs.home}/") else []
        for level in range(1, len(parts)):
            other = msgspec.structs.replace(root, path="/".join([path, *parts[level:]]))
            if name.startswith(parts[level - 1]):
                yield other
            elif os.path.isdir(other.path):
                found.append(other)
    yield from found


def find_further_homes(config: Config, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (tool, directory) for each directory that looks like a second one of a tool, and that no root covers.

    People give a tool a second directory by its variable, `CLAUDE_CONFIG_DIR=~/.claude-work`, which is seldom set where
    the daemon runs, or keep a copy of one.
    """
    dirs = UserDirs.current(environ)
    hidden = sorted(glob(f"{glob_escape(dirs.home)}/.*"))
    found: list[tuple[str, str, str]] = []
    for source in find_sources():
        for root in source.roots(dirs):
            name, _, rest = root.path.removeprefix(f"{dirs.home}/").partition("/")
            if not root.path.startswith(f"{dirs.home}/.") or not rest or name in SHARED_DIRECTORIES:
                continue
            similar = tuple(f"{dirs.home}/{name}{mark}" for mark in "-_.")
            alike = [path for path in hidden if path.startswith(similar)]
            found += [(source.tool, path, f"{path}/{rest}") for path in alike if os.path.isdir(f"{path}/{rest}")]
    if not found:
        return []
    covered = {os.path.realpath(root.path) for _, root in find_roots(config, environ)}
    return list(dict.fromkeys((tool, path) for tool, path, root in found if os.path.realpath(root) not in covered))


SHARED_DIRECTORIES = (".config", ".local", ".cache", ".var")
"""Directories in the home that belong to no single tool."""

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
        (source, Root(path=path, watch=Watch.FLAT, depth=0, cwd=path, side_files=False))
        for source in find_sources()
        if source.landmark and ((settings := config.sources.get(source.tool)) is None or settings.enabled)
        for path in found
        if os.path.lexists(os.path.join(path, source.landmark))
    ]


def find_variables() -> list[str]:
    """Return the environment variables that decide where tools keep their sessions, in the order of the tools."""
    return list(dict.fromkeys(variable for source in find_sources() for variable in source.variables))
