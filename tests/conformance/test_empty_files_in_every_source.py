"""Files and tables that a tool creates and fills later, or that a full disk left empty: none is called a trouble."""

from __future__ import annotations

import os
import re
from pathlib import Path

from conformance import engine
from sessiond.ingest import ingest
from sessiond.sources.base import Kind
from support.each_tool import each_tool
from support.sample_tree import NAMES, SAMPLES, WRITTEN_NS, build, built, open_store, statements


def files_of(location: engine.Location) -> list[Path]:
    """Return the files of a unit: one, or those of a folder."""
    path = Path(location.path)
    return [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]


def folders(tree: str) -> list[Path]:
    """Return the units of a tree that are folders."""
    return [Path(location.path) for location in engine.locations(tree) if location.unit.kind is Kind.FOLDER]


@each_tool(NAMES)
def test_an_empty_file_is_no_trouble_and_hides_no_other(name: str, tmp_path: Path) -> None:
    """Each is captured when something is written to it. Until then nothing is reported, and no command fails."""
    tree = build(name, tmp_path / "home")
    for location in engine.locations(tree):
        for path in files_of(location):
            path.write_bytes(b"")
            os.utime(path, ns=(WRITTEN_NS, WRITTEN_NS))
    found = engine.units(tree)
    with engine.opened(found.roots) as context:
        for location in [*found.locations, *found.side_files]:
            outcome = ingest(context, location)
            assert (outcome.trouble, outcome.retry) == (None, False), location.path
        assert not [state for state in context.spool.catalog.sessions() if state.record is not None]


# Named: to build all samples takes each process of a run a second.
WITH_FOLDERS = [name for name in NAMES if name.startswith(("mistral-vibe/", "openhands/"))]


def test_every_sample_with_a_folder_is_among_those_named() -> None:
    assert {name for name in NAMES if folders(built(name))} <= {*WITH_FOLDERS}


@each_tool(WITH_FOLDERS)
def test_an_empty_file_in_a_folder_costs_no_message(name: str, tmp_path: Path) -> None:
    """A lock, or a file that was created and not written yet, is in the folder of a session."""
    tree = build(name, tmp_path / "home")
    before = engine.capture(built(name))
    for folder in folders(tree):
        for directory in {folder, *(each.parent for each in folder.rglob("*"))}:
            (directory / "empty.json").write_bytes(b"")
    counts = {identity: found.session.message_count for identity, found in before.items()}
    assert {identity: found.session.message_count for identity, found in engine.capture(tree).items()} == counts


def schema(name: str) -> list[tuple[str, list[str]]]:
    """Return the path of each database of a sample, and the statements that create its tables."""
    found = []
    for path in (SAMPLES / name).rglob("*.sql"):
        script = path.read_text(encoding="utf-8")
        tables = [each for each in statements(script) if re.match(r"\s*CREATE TABLE", each, re.IGNORECASE)]
        found.append((str(path.relative_to(SAMPLES / name).with_suffix("")), tables))
    return found


@each_tool([name for name in NAMES if any((SAMPLES / name).rglob("*.sql"))])
def test_a_database_whose_tables_are_being_created_is_no_trouble(name: str, tmp_path: Path) -> None:
    """A tool creates its tables one after the other, and a daemon may look at any time."""
    tree = build(name, tmp_path / "home")
    for relative, tables in schema(name):
        path = Path(tree, relative)
        for number in range(len(tables) + 1):
            path.unlink()
            database = open_store(path)
            for statement in tables[:number]:
                database.execute(statement)
            database.close()
            found = engine.units(tree)
            with engine.opened(found.roots) as context:
                for location in found.locations:
                    if location.path == str(path):
                        assert ingest(context, location).trouble is None, tables[:number]
