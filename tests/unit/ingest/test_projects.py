"""Tools that keep their sessions in the projects: their roots are learned from the sessions of other tools."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sessiond import state
from sessiond.config import Config
from sessiond.daemon.resources import open_resources
from sessiond.ingest import ingest, locate
from sessiond.sources import find_project_roots
from sessiond.sources.base import Watch
from sessiond.watch import Watcher
from support.harness import CLAUDE, SESSION, claude, encode

HISTORY = ".aider.chat.history.md"
MARKDOWN = "\n# aider chat started at 2026-09-01 10:00:00\n\n> Aider v0.86.2  \n\n#### hello  \n\nHello.\n\n"


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_a_project_that_another_tool_names_becomes_a_root(tmp_path: Path) -> None:
    """The named directory and those above it count, up to the home and only with the landmark."""
    project = tmp_path / "home" / "loom"
    write(project / HISTORY, MARKDOWN)
    write(tmp_path / "home" / HISTORY, MARKDOWN)
    write(tmp_path / HISTORY, MARKDOWN)
    environ = {"HOME": str(tmp_path / "home")}
    named = [str(project / "src" / "deep"), str(tmp_path / "home" / "elsewhere"), "relative", ""]
    found = [(source.tool, root.path, root.watch) for source, root in find_project_roots(Config(), environ, named)]
    assert found == [("aider", str(project), Watch.FLAT)]


def test_a_project_that_was_learned_is_no_move_of_a_tool(tmp_path: Path) -> None:
    """The engine restarts only if a tool lists other roots, or each scan would restart it."""
    home = tmp_path / "home"
    state.prepare(str(tmp_path / "state"))
    write(home / "loom" / HISTORY, MARKDOWN)
    transcript = write(home / CLAUDE, encode(claude(SESSION, 1, cwd=str(home / "loom"))))
    resources = open_resources(Config(state_dir=str(tmp_path / "state")), {"HOME": str(home)})
    try:
        for place in locate(resources.roots, transcript):
            ingest(resources.ingest, place)
        assert resources.discover_project_roots()
        assert not resources.roots_changed()
        listed = {"projects": [{"path": "/x", "data_dir": str(tmp_path / "crush")}]}
        write(home / ".local/share/crush/projects.json", json.dumps(listed))
        assert resources.roots_changed()
    finally:
        resources.close()


def test_a_daemon_learns_of_a_project_while_it_runs(tmp_path: Path) -> None:
    """A session of another tool names a directory, which is read and watched from then on."""
    home = tmp_path / "home"
    environ = {"HOME": str(home)}
    state.prepare(str(tmp_path / "state"))
    history = write(home / "loom" / HISTORY, MARKDOWN)
    transcript = write(home / CLAUDE, encode(claude(SESSION, 1, cwd=str(home / "loom"))))
    resources = open_resources(Config(state_dir=str(tmp_path / "state")), environ)
    watcher = Watcher(resources.watched)
    watcher.start()
    try:
        watcher.wait(1)
        assert not locate(resources.roots, history)
        for place in locate(resources.roots, transcript):
            ingest(resources.ingest, place)
        assert [root.root.path for root in resources.discover_project_roots(watcher)] == [str(home / "loom")]
        assert resources.discover_project_roots(watcher) == []
        assert os.path.dirname(history) in [root.root.path for root in watcher.wait(5).rescan]
        for place in locate(resources.roots, history):
            ingest(resources.ingest, place)
        records = {found.tool: found.record for found in resources.spool.catalog.sessions() if found.record}
        assert records["aider"].working_directory == str(home / "loom")
        assert records["aider"].message_count == 2
    finally:
        watcher.close()
        resources.close()
