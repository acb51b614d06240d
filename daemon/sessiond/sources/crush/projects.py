"""Which projects Crush keeps databases in: it has a list of them (formats.md 2.22 Directory)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from sessiond.sources.base import Places, Root, Watch
from sessiond.sources.places import peek

REGISTRY = "projects.json"


class _Project(msgspec.Struct):
    path: str
    data_dir: str


class _Projects(msgspec.Struct):
    projects: list[_Project] = []


PROJECTS = msgspec.json.Decoder(_Projects)


def roots_of(places: Places) -> Iterator[Root]:
    """Name the directory of the list, and the data directories of the projects in it; a damaged list names none."""
    base = places.given("CRUSH_GLOBAL_DATA") or f"{places.data if places.platform == 'win32' else places.share}/crush"
    yield Root(path=base, watch=Watch.FLAT, registry=REGISTRY)
    known = {base}
    for project in _listed(f"{base}/{REGISTRY}"):
        path = os.path.normpath(os.path.join(project.path, project.data_dir))
        if os.path.isabs(path) and path not in known:
            known.add(path)
            yield Root(path=path, watch=Watch.FLAT, cwd=project.path)


def _listed(path: str) -> list[_Project]:
    try:
        return PROJECTS.decode(peek(path)).projects
    except ValueError:
        return []
