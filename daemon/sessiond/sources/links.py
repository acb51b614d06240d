"""Follows symbolic links below a root: a project's sessions, or a database, on another disk or in a dotfile repository.

Only links that the user made in a tool's own directory are followed. A root in a project is different: anybody who
wrote to the repository may have planted a link to a secret.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

import msgspec

from sessiond.errors import Unsafe
from sessiond.sources.base import Kind, Root, Source, Unit, Watch

ITSELF = "."
"""The path of a unit that is the root itself: a folder that a link leads to."""


class Link(msgspec.Struct, frozen=True):
    """A symbolic link below a root."""

    source: Source
    root: Root
    path: str


def linked_root(link: Link, roots: Sequence[tuple[Source, Root]], state: str) -> Root | None:
    """Return the root that a link leads to; None if there is no session, or if it is captured there already.

    A target has one root, even if several links or roots lead there. `state` is the state directory: each capture
    would change a file in it and so cause another capture.

    Raises: Unsafe with the reason why the link is not followed.
    """
    try:
        target, found, own = os.path.realpath(link.path), os.stat(link.path), os.lstat(link.path)
    except OSError:
        return None  # dangling, or a circle of links
    relative = os.path.relpath(link.path, link.root.path)
    directory, flat = stat.S_ISDIR(found.st_mode), link.root.watch is Watch.FLAT
    depth = link.root.depth - relative.count("/") - 1
    if directory and (flat or depth < 0):
        return None
    if not directory and not (
        stat.S_ISREG(found.st_mode) and find_unit(link.source, link.root, link.root.prefix + relative)
    ):
        return None
    around = [
        msgspec.structs.replace(root, path=os.path.realpath(root.path))
        for source, root in roots
        if source is link.source and not root.only
    ]
    if any(root.path == target or root.covers(target) for root in around):
        return None
    if link.root.cwd:
        raise Unsafe("it is in a project")
    if not directory and is_part_of_folder(link.source, link.root, link.root.prefix + relative):
        raise Unsafe("it is one of the files of a session: link to their directory instead")
    if {found.st_uid, own.st_uid} != {os.geteuid()}:
        raise Unsafe("it leads to something of another user")
    state = os.path.realpath(state)
    if _contains(state, target) or any(_contains(target, path) for path in [state, *(root.path for root in around)]):
        raise Unsafe(f"it leads to {target}, which contains sessiond's own files or the link itself")
    prefix = link.root.prefix + relative
    if directory:
        return msgspec.structs.replace(_beyond(link), path=link.path, prefix=f"{prefix}/", depth=depth)
    folder, name = os.path.split(target)
    made = msgspec.structs.replace(
        _beyond(link), path=folder, prefix=prefix, only=name, watch=Watch.FLAT, depth=0, skip=frozenset()
    )
    return None if (link.source, made) in roots else made


def find_unit(source: Source, root: Root, relative: str) -> Unit | None:
    """Return the unit of a path below a root: one of a session, or a side file; None if it is neither.

    `relative` begins with the root's prefix.
    """
    unit = None if root.side else source.unit(relative)
    if unit is not None or not root.side_files:
        return unit
    for files in source.side_files:
        if found := files.match(relative):
            native_id, name, media_type = found
            return Unit(kind=Kind.FILE, native_id=native_id, stream=name, thread=False, media_type=media_type)
    return None


def unit_below_link(source: Source, root: Root, relative: str) -> Unit | None:
    """Return the unit of a path below a root that a link leads to; None if it reaches beyond the link."""
    only = root.only if isinstance(root.only, str) else ""
    if not relative.startswith(root.only):
        return None
    # Beside a database are files whose names begin with its name. "" is the directory itself, which may be a folder.
    name = root.prefix + relative[len(only) :] if relative else root.prefix.rstrip("/")
    unit = find_unit(source, root, name)
    if unit is None or (not relative and unit.kind is not Kind.FOLDER):
        return None
    if (unit.path or name) == root.prefix.rstrip("/") and not only:
        return msgspec.structs.replace(unit, path=ITSELF)
    if not unit.path:
        return unit
    if not unit.path.startswith(root.prefix):
        return None
    return msgspec.structs.replace(unit, path=only + unit.path[len(root.prefix) :])


def is_part_of_folder(source: Source, root: Root, relative: str) -> bool:
    """Return whether a path below a root is one of the files of a folder, which are read together."""
    unit = find_unit(source, root, relative)
    return unit is not None and unit.kind is Kind.FOLDER and unit.path not in ("", relative)


def _beyond(link: Link) -> Root:
    """Return what a root that a link leads to has in common with the root of the link."""
    root = link.root
    return Root(
        path="",
        watch=root.watch,
        skip=root.skip,
        side=root.side,
        side_files=root.side_files,
        origins=((root.path, root.prefix), *root.origins),
    )


def _contains(directory: str, path: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
