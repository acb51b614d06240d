"""Files below a root that look like sessions and that no source reads: each is recognized, and nothing else is."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from conformance import engine
from sessiond.ingest import Index
from sessiond.sources import find_sources
from sessiond.sources.base import Kind, Watch
from sessiond.sources.unrecognized import SESSIONS
from sessiond.watch.scan import FurtherSearch, ScanStats, scan
from support.each_tool import each_tool
from support.sample_tree import NAMES, build, built

REALLY_UNREAD = {
    "gemini-cli/0.25-document": {"checkpoint-mytag.json"},
    "pi/0.73-branches": {"2026-04-01T10-00-00-000Z_019d4870-7100-7000-8000-000000000009.jsonl"},
    "gemini-cli/0.61-resume": {"session-2026-03-01T10-00-00000011.jsonl.unreadable-1775037600000"},
}
"""Files of samples that have a conversation, and that no source reads."""
IN_PROJECTS = {"aider"}
"""Tools whose roots are projects, in which any file may be."""

sample = each_tool(NAMES)


def unrecognized(tree: str) -> dict[str, set[str]]:
    """Return the tools of each file of a tree that looks like a session."""
    index, found = Index(roots := engine.roots(tree)), dict[str, set[str]]()
    for _, root in roots:
        stats = ScanStats()
        for path, _ in scan(root, stats=stats):
            if not list(index.units(path)) and (tools := index.unrecognized(path)):
                found[path] = tools
        further = FurtherSearch(stats.passed_over).files()
        found |= {path: tools for path in further if (tools := index.passed_over(path))}
    return found


@sample
def test_no_known_file_of_a_tool_is_taken_for_a_session(name: str) -> None:
    """A list of sessions, settings or an index in a tool's directory raises no question."""
    assert {os.path.basename(path) for path in unrecognized(built(name))} == REALLY_UNREAD.get(name, set())


@sample
def test_a_session_under_a_foreign_name_is_captured_or_listed(name: str) -> None:
    """The next version of a tool may name its sessions differently: no file is passed over in silence."""
    tree = built(name)
    found = engine.units(tree)
    index = Index(found.roots)
    for location in found.locations:
        if location.unit.kind in (Kind.HISTORY, Kind.TITLES) or location.source.tool in IN_PROJECTS:
            continue
        stem, suffix = os.path.splitext(location.path if Path(location.path).is_file() else f"{location.path}.json")
        foreign = f"{stem} (2){suffix}"
        tools = index.unrecognized(foreign)
        assert list(index.units(foreign)) or location.source.tool in tools, foreign


def test_each_source_recognizes_a_foreign_file() -> None:
    """Directly in its root, where no session's own directory makes it a side file."""
    for source in find_sources():
        if source.tool not in IN_PROJECTS:
            places = [root for each, root in engine.roots("/home/ada") if each is source and not root.only]
            names = ("new name.jsonl", "new name.json", "state new.db", "logs-new.db", ".forge-new.db")
            index = Index([(source, root) for root in places])
            paths = [f"{root.path}/{folder}{name}" for root in places for folder in FOLDERS for name in names]
            assert any(source.tool in index.unrecognized(path) for path in paths), source.tool


FOLDERS = ("", "main/sessions/", "session/project/")


@sample
def test_a_session_in_a_directory_that_is_not_searched_is_listed(name: str, tmp_path: Path) -> None:
    """Too deep for the scan, or in a directory whose name it skips: nothing is captured from there, which is shown."""
    tree = build(name, tmp_path)
    wanted = set[str]()
    found = engine.units(tree)
    for location in found.locations:
        root = next(root for each, root in found.roots if each is location.source and root.path == location.root)
        if not os.path.isfile(location.path) or root.watch is Watch.FLAT or location.unit.kind not in SESSIONS:
            continue
        if location.source.tool in IN_PROJECTS:
            continue
        skipped = sorted(root.skip)[0] if root.skip else "/".join("abcdefghijklm"[: root.depth + 1])
        moved = Path(root.path, os.path.dirname(location.below), skipped, os.path.basename(location.below))
        if not any(re.fullmatch(each, str(moved.relative_to(root.path))) for each in location.source.other_files):
            moved.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(location.path, moved)
            wanted.add(str(moved))
    assert wanted <= unrecognized(tree).keys()
