"""A directory that a user configures for a tool is read, whichever level of the tool's layout it is."""

from __future__ import annotations

from os.path import isdir
from pathlib import Path

import pytest

from conformance import engine
from sessiond.config import Config, SourceSettings
from sessiond.ingest import Index
from sessiond.sources import find_further_homes, find_roots, find_sources
from sessiond.sources.base import UserDirs
from sessiond.sources.registry import SHARED_DIRECTORIES, configured_roots
from sessiond.watch.scan import scan
from support.each_tool import each_tool
from support.sample_tree import NAMES, build, built

PROJECT = "projects/-home-u-app"


def roots_of(home: Path, *configured: Path) -> set[str]:
    """Return the roots of Claude Code that a configuration adds to its own ones."""
    settings = SourceSettings(roots=[str(path) for path in configured])
    environ = {"HOME": str(home)}
    tool = "claude-code"
    without = {root.path for source, root in find_roots(Config(), environ) if source.tool == tool}
    return {
        root.path for source, root in find_roots(Config(sources={tool: settings}), environ) if source.tool == tool
    } - without


@pytest.mark.parametrize(
    ("layout", "configured", "history"),
    [
        (".claude-work/projects", ".claude-work", True),  # as in CLAUDE_CONFIG_DIR
        (".claude-work/projects", ".claude-work/projects", False),  # the root itself
        ("old-laptop/.claude/projects", "old-laptop", True),  # a home of another machine
        ("old-laptop/.claude/projects", "old-laptop/.claude", True),
    ],
)
def test_the_directory_below_which_sessions_are_is_found(
    tmp_path: Path, layout: str, configured: str, history: bool
) -> None:
    (tmp_path / layout / "-home-u-app").mkdir(parents=True)
    above = {str((tmp_path / layout).parent)} if history else set()
    assert roots_of(tmp_path, tmp_path / configured) == {str(tmp_path / layout)} | above


def test_a_directory_without_sessions_yet_is_watched_whole(tmp_path: Path) -> None:
    (tmp_path / ".claude-work").mkdir()
    found = roots_of(tmp_path, tmp_path / ".claude-work")
    assert {str(tmp_path / ".claude-work"), str(tmp_path / ".claude-work/projects")} <= found


def test_a_directory_that_does_not_exist_yet_is_expected_at_each_level(tmp_path: Path) -> None:
    found = roots_of(tmp_path, tmp_path / ".claude-work")
    assert {str(tmp_path / ".claude-work"), str(tmp_path / ".claude-work/projects")} <= found


def test_a_configured_root_never_leads_outside_of_itself(tmp_path: Path) -> None:
    dirs = UserDirs(home=str(tmp_path), environ={}, platform="linux")
    for source in find_sources():
        for root in configured_roots(source, dirs, f"{tmp_path}/elsewhere"):
            assert f"{root.path}/".startswith(f"{tmp_path}/elsewhere/"), source.tool


def test_a_second_directory_of_a_tool_is_suggested_until_it_is_covered(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    (tmp_path / ".claude-work" / PROJECT).mkdir(parents=True)
    (tmp_path / ".claude-empty").mkdir()
    (tmp_path / ".codex-two" / "sessions").mkdir(parents=True)
    work = str(tmp_path / ".claude-work")
    assert ("claude-code", work) in find_further_homes(Config(), environ)
    assert ("codex", str(tmp_path / ".codex-two")) in find_further_homes(Config(), environ)
    covered = Config(sources={"claude-code": SourceSettings(roots=[work])})
    assert [path for tool, path in find_further_homes(covered, environ) if tool == "claude-code"] == []


def units(home: Path, config: Config, tool: str) -> set[str]:
    """Return the paths of the units of a tool in a home."""
    roots = find_roots(config, {"HOME": str(home)})
    index = Index(roots)
    paths = {path for source, root in roots if source.tool == tool for path, _ in scan(root)}
    return {each.path for path in paths for each in index(path) if each.source.tool == tool}


@each_tool(NAMES)
def test_a_moved_directory_of_any_tool_is_read_at_each_level(name: str, tmp_path: Path) -> None:
    """A second directory, a copy of one, and the home of an older machine: whatever variables the tool has."""
    tool, home = name.split("/")[0], Path(build(name, tmp_path / "home"))
    for folder in [each for each in home.iterdir() if each.is_dir() and each.name.startswith(".")]:
        usual = {path for path in units(home, Config(), tool) if path.startswith(f"{folder}/")}
        moves = [(f"old/{folder.name}", "old"), (f"old/{folder.name}", f"old/{folder.name}")]
        if usual and folder.name not in SHARED_DIRECTORIES:
            moves.append((f"{folder.name}-work", f"{folder.name}-work"))
            moves.append(("copied", "copied"))
        roots = [root.path for source, root in engine.roots(str(home)) if source.tool == tool and not root.only]
        suggested = any(path.startswith(f"{folder}/") and isdir(path) for path in roots)
        for moved, configured in moves if usual else ():
            (home / "old").mkdir(exist_ok=True)
            folder.rename(home / moved)
            config = Config(sources={tool: SourceSettings(roots=[str(home / configured)])})
            expected = {path.replace(f"{folder}/", f"{home}/{moved}/", 1) for path in usual}
            assert expected <= units(home, config, tool), configured
            if suggested and moved.endswith("-work"):
                assert (tool, str(home / moved)) in find_further_homes(Config(), {"HOME": str(home)})
            (home / moved).rename(folder)


@each_tool(NAMES)
def test_no_directory_of_a_tool_is_taken_for_a_second_one(name: str) -> None:
    assert find_further_homes(Config(), {"HOME": built(name)}) == []
