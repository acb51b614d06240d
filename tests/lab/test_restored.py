"""The results of `make lab-restore`: what they keep, and that they are of tools with a recipe."""

from __future__ import annotations

import datetime
import sqlite3
from contextlib import closing
from pathlib import Path

from lab.restored import PROGRAMS, Restored, add, remove, restored
from lab.subagents import transcripts
from sessiond.sources.recipes import restorable_tools


def test_scenarios_of_one_version_are_collected(tmp_path: Path) -> None:
    """Those of an earlier version are forgotten."""
    file, day = tmp_path / "restored.toml", datetime.date(2026, 11, 29)
    file.write_text("")
    add("codex", "1.0", "tool", day, file)
    add("codex", "1.0", "fork", day, file)
    assert restored(file) == {"codex": Restored("1.0", day, ["fork", "tool"])}
    add("codex", "1.1", "tool", day, file)
    assert restored(file) == {"codex": Restored("1.1", day, ["tool"])}


def test_a_scenario_that_fails_is_taken_out(tmp_path: Path) -> None:
    """Only of its version: a run of another one says nothing about it."""
    file, day = tmp_path / "restored.toml", datetime.date(2026, 11, 29)
    file.write_text("")
    add("codex", "1.0", "tool", day, file)
    add("codex", "1.0", "fork", day, file)
    remove("codex", "0.9", "fork", file)
    assert restored(file) == {"codex": Restored("1.0", day, ["fork", "tool"])}
    remove("codex", "1.0", "fork", file)
    remove("pi", "1.0", "fork", file)
    assert restored(file) == {"codex": Restored("1.0", day, ["tool"])}
    remove("codex", "1.0", "tool", file)
    assert restored(file) == {}


def test_subagents_are_counted_in_files_and_in_databases(tmp_path: Path) -> None:
    """A database has a transcript for each session whose parts have the prompt; our own state does not count."""
    for name, text in (
        ("a.jsonl", "say hello from subagent"),
        ("b.json", "hello"),
        ("state/c.json", "hello from subagent"),
        ("meta.json", "hello from subagent"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert transcripts(str(tmp_path)) == 1
    with closing(sqlite3.connect(tmp_path / "tool.db")) as database, database:
        database.execute("CREATE TABLE part (session_id TEXT, data TEXT)")
        rows = [("1", "hello from subagent"), ("1", "hello from subagent"), ("2", "hello from subagent"), ("3", "x")]
        database.executemany("INSERT INTO part VALUES (?, ?)", rows)
    (tmp_path / "empty.db").touch()
    assert transcripts(str(tmp_path)) == 3


def test_only_tools_with_a_recipe_have_passed() -> None:
    assert {PROGRAMS.get(name, name) for name in restored()} <= set(restorable_tools())
