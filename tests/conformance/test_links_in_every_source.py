"""Links that a user made in the directory of a tool: every source captures what they lead to, once and whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from conformance import engine
from sessiond.sources.base import Watch
from support.each_tool import each_tool
from support.sample_tree import NAMES, build, expected

IN_PROJECTS = {"aider", "crush"}
"""Tools that keep sessions in projects, where no link is followed."""
LAST = {name.partition("/")[0]: name for name in NAMES if name.partition("/")[0] not in IN_PROJECTS}
SPREAD = [
    "gemini-cli/0.61-rewind",
    "kimi/cli-1.49-fork",
    "mistral-vibe/2.26-lines",
    "opencode/0.5-files",
    "opencode/1.1-files",
    "openhands/cli-1.16",
    "qwen-code/0.0-gemini-style",
]
"""Further samples, whose sessions are spread over several files or directories."""
samples = each_tool(sorted({*LAST.values(), *SPREAD}))


def replace_by_link(path: str, disk: Path) -> None:
    """Move a file or a directory to another disk, and leave a link in its place."""
    number = len(os.listdir(disk)) if disk.exists() else 0
    target = disk / str(number) / os.path.basename(path)
    target.parent.mkdir(parents=True)
    os.rename(path, target)
    os.symlink(target, path)


def found(tree: str) -> list[tuple[object, ...]]:
    """Return what is captured of a tree in which links are followed."""
    return sorted(
        (
            str(identity),
            each.session.message_count,
            each.session.model,
            each.session.working_directory,
            each.parent,
            each.title,
            *each.streams,
            *sorted(each.side_files),
        )
        for identity, each in engine.capture(tree).items()
    )


def wanted(name: str) -> list[tuple[object, ...]]:
    """Return what the sample has without links."""
    return sorted(
        (
            each["id"],
            each["message_count"],
            each["model"],
            each["working_directory"],
            each["parent"],
            each["title"],
            *each["streams"],
            *sorted(each.get("side_files", ())),
        )
        for each in expected(name)
    )


def files_of_units(tree: str) -> Iterator[str]:
    """Iterate over the files and folders that are units, except those that others need beside them."""
    units = [*engine.locations(tree), *engine.side_files(tree)]
    beside = {os.path.join(*each.resolve(name)) for each in units for name in each.unit.beside}
    yield from ({each.path for each in units} - beside)


@samples
def test_a_session_whose_file_is_a_link_is_captured_once(name: str, tmp_path: Path) -> None:
    tree = build(name, tmp_path / "home")
    for path in sorted(files_of_units(tree)):
        replace_by_link(path, tmp_path / "disk")
    assert found(tree) == wanted(name)


@samples
def test_sessions_below_a_linked_directory_are_captured_once(name: str, tmp_path: Path) -> None:
    """Each directory in a root is a link, and if there is none, the root itself."""
    tree = build(name, tmp_path / "home")
    roots = [root for _, root in engine.roots(tree) if os.path.isdir(root.path) and root.watch is not Watch.FLAT]
    for root in roots:
        directories = [entry for entry in os.scandir(root.path) if entry.is_dir(follow_symlinks=False)]
        for entry in directories:
            if entry.name not in root.skip and not any(each.path.startswith(entry.path) for each in roots):
                replace_by_link(entry.path, tmp_path / "disk")
        if not directories and not os.path.islink(root.path):
            replace_by_link(root.path, tmp_path / "disk")
    assert found(tree) == wanted(name)
