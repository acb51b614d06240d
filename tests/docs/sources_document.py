"""docs/sources.md, what the code and the samples say of every tool, and the list of tools in the README.

`python tests/docs/sources_document.py` (with daemon/ and tests/ on the path) writes both anew; a test compares them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from lab.results import results
from lab.runs import RUNS, UNRUN
from sample_tree import NAMES, built, expected
from sessiond.sources import UNREADABLE, find_sources
from sessiond.sources.base import Places, Source

PLACE = Path(__file__).parents[2] / "docs" / "sources.md"
README = PLACE.parents[1] / "README.md"
LIST = re.compile(r"(?<=^It reads these tools, old layouts and new: )[\w,\s-]+(?=\.\s`sessiond sources`)", re.MULTILINE)
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
    unrun = dict.fromkeys(sorted({source.tool for source in find_sources()} - {run.tool for run in RUNS}), "not tried")
    yield from (f"| {tool} | {reason} |\n" for tool, reason in (unrun | UNRUN).items())


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


def readme() -> str:
    """Make the README, in which a tool that came goes to the end of the list, and its paragraph is filled."""
    text = README.read_text(encoding="utf-8")
    tools = {source.tool for source in find_sources()}
    named = [name for name in re.split(r"[,\s]+", LIST.findall(text)[0]) if name in tools]
    named += sorted(tools.difference(named))
    text = LIST.sub(", ".join(named), text)
    before, mark, rest = text.partition("It reads these tools")
    paragraph, after = rest.split("\n\n", maxsplit=1)
    filled = textwrap.fill(mark + paragraph, 120, break_long_words=False, break_on_hyphens=False)
    return before + filled + "\n\n" + after


if __name__ == "__main__":
    PLACE.write_text(document(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
