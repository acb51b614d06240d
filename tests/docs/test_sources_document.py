"""docs/sources.md agrees with the code and the samples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sources_document import FIELDS, PLACE, README, document, readme

from lab.results import results
from lab.runs import RUNS, UNRUN
from sessiond.sources import UNREADABLE, find_sources
from sessiond.sources.base import UserDirs
from support.sample_tree import NAMES, expected


def test_the_page_is_what_the_code_says() -> None:
    """To update it: `PYTHONPATH=daemon:tests python tests/docs/sources_document.py`."""
    assert PLACE.read_text(encoding="utf-8") == document()


def test_the_readme_names_every_tool_that_is_read() -> None:
    """The README shows whether a tool is supported. The same command updates it."""
    assert README.read_text(encoding="utf-8") == readme()


def test_the_lab_runs_tools_that_are_read() -> None:
    """A tool may have a reason why it does not run. A shown result belongs to a run that the lab still makes."""
    runs = {(run.tool, run.version) for run in RUNS}
    assert {(it.tool, it.version) for it in results()} <= runs
    read = {source.tool for source in find_sources()}
    assert {tool for tool, _ in runs} <= read
    assert set(UNRUN) <= read | {tool.tool for tool in UNREADABLE}
    assert not {tool for tool, _ in runs} & set(UNRUN)


def test_a_tool_that_cannot_be_read_is_recognised(tmp_path: Path) -> None:
    """It is recognised by its directory, and none of these tools has a source."""
    places = UserDirs(home=str(tmp_path), environ={}, platform="linux")
    assert [tool.find(places) for tool in UNREADABLE] == [None] * len(UNREADABLE)
    os.makedirs(tmp_path / ".codeium/windsurf/cascade")
    assert [tool.tool for tool in UNREADABLE if tool.find(places)] == ["windsurf"]
    assert not {tool.tool for tool in UNREADABLE} & {source.tool for source in find_sources()}


WORDS = {
    "tool_version": "version",
    "model": "model",
    "working_directory": "folder",
    "git_branch": "branch",
    "parent": "parent",
    "title": "title",
}


@pytest.mark.parametrize("tool", sorted({source.tool for source in find_sources()}))
def test_what_a_source_can_not_fill_is_said(tool: str) -> None:
    """Each source names the versions of its samples, and each field that no sample fills with the reason."""
    sources = [source for source in find_sources() if source.tool == tool]
    assert all(source.versions and source.gaps for source in sources)
    sessions = [session for name in NAMES if name.startswith(f"{tool}/") for session in expected(name)]
    gaps = " ".join(gap for source in sources for gap in source.gaps)
    missing = [field for field in FIELDS if not any(session[field] for session in sessions)]
    assert [field for field in missing if WORDS[field] not in gaps] == []
