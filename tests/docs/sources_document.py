"""docs/sources.md: what the code and the samples say of every tool.

`python tests/docs/sources_document.py` (with daemon/ and tests/ on the path) writes the file anew; a test compares it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lab.results import results
from lab.runs import RUNS, UNRUN
from sample_tree import NAMES, built, expected
from sessiond.sources import UNREADABLE, find_sources
from sessiond.sources.base import Places, Source

PLACE = Path(__file__).parents[2] / "docs" / "sources.md"
FIELDS = ("tool_version", "model", "working_directory", "git_branch", "parent", "title")
HEAD = """# The tools that sessiond reads

This page is made from the sources and from the samples that they are tested with: `tests/docs/sources_document.py`
writes it anew. *Versions* are those of the tool (or of its format) that the samples have the shape of; *samples* names
these (`tests/conformance/samples`). *Stores* are JSON lines, a document that is rewritten, a folder of files, or a
database. *Fills* names what the tool stores of the fields that not every tool has, *gaps* what it does not
store and what is not read.

| tool | versions | samples | stores | fills | gaps |
|---|---|---|---|---|---|
"""
UNREAD = """
## Recognised, but not read

| tool | where | why |
|---|---|---|
"""
LAB = """
## Last lab results

`make lab` runs the tools' own command lines, offline, against a stub of a model, while a daemon watches. A run writes
its row when all of it held: each session is at the endpoint with the right id, directory, branch, model, version and
number of messages (counted by hand in what the tool wrote: `tests/lab/runs.py`), its transcript is that of the file,
and none of the tool's files was changed (`-shm` aside). *Refused* names scenarios that the tool itself ended with an
error, or not in time.

| tool | version | date | scenarios | refused | sessions | messages |
|---|---|---|---|---|---|---|
"""
UNRUN_HEAD = """
Not run in the lab:

| tool | why |
|---|---|
"""
ROOTS = """
## Where they lie

Directories are named as on Linux, and those that lie elsewhere on macOS after them. A tool's own environment
variables move them.

"""


def roots(source: Source, platform: str) -> dict[str, None]:
    """Name the directories of a source."""
    places = Places(home="~", environ={}, platform=platform)
    return dict.fromkeys(root.path for root in source.roots(places))


def stores(source: Source) -> set[str]:
    """Name how the tool keeps what the samples have of it."""
    found = set()
    for name in NAMES:
        if name.startswith(f"{source.tool}/"):
            for root in source.roots(Places(home=built(name), environ={}, platform="linux")):
                for path in Path(root.path).rglob("*"):
                    unit = source.unit(str(path.relative_to(root.path))) if path.is_file() else None
                    found |= {str(unit.kind)} if unit else set()
    return found


def rows() -> Iterator[str]:
    """Make a row for each tool."""
    by_tool: dict[str, list[Source]] = {}
    for source in find_sources():
        by_tool.setdefault(source.tool, []).append(source)
    for tool, sources in by_tool.items():
        names = [name for name in NAMES if name.startswith(f"{tool}/")]
        sessions = [session for name in names for session in expected(name)]
        fills = ", ".join(field for field in FIELDS if any(session[field] for session in sessions))
        gaps = "; ".join(gap for source in sources for gap in source.gaps)
        kinds = ", ".join(sorted(set().union(*map(stores, sources))))
        tested = ", ".join(name.split("/")[1] for name in names)
        versions = ", ".join(version for source in sources for version in source.versions)
        yield f"| {tool} | {versions} | {tested} | {kinds} | {fills} | {gaps} |\n"


def lab_results() -> Iterator[str]:
    """Make a row for each version of a tool that the lab has run, then one for each tool that it does not run."""
    for it in results():
        cells = [it.tool, it.version, it.date, it.scenarios, it.refused, it.sessions, it.messages]
        yield f"| {' | '.join(map(str, cells))} |\n"
    held = {(it.tool, it.version) for it in results()}
    for run in RUNS:
        if (run.tool, run.version) not in held:
            yield f"| {run.tool} | {run.version} | no result yet |  |  |  |  |\n"
    yield UNRUN_HEAD
    yield from (f"| {tool} | {reason} |\n" for tool, reason in UNRUN.items())


def places() -> Iterator[str]:
    """List the directories of each tool."""
    for source in find_sources():
        yield f"- {source.tool}\n"
        linux, mac = roots(source, "linux"), roots(source, "darwin")
        for path in [*linux, *(f"{path} (macOS)" for path in mac if path not in linux)]:
            yield f"  - {path}\n"


def document() -> str:
    """Make the page."""
    unread = "".join(f"| {it.tool} | {it.path.replace('{config}', '~/.config')} | {it.reason} |\n" for it in UNREADABLE)
    lab = LAB + "".join(lab_results())
    return HEAD + "".join(rows()) + lab + UNREAD + unread + ROOTS + "".join(places())


if __name__ == "__main__":
    PLACE.write_text(document(), encoding="utf-8")
