"""Databases with a damaged page: it hides no session but those that it holds, and it is reported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from conformance import engine
from sessiond.errors import ReadError
from sessiond.ingest.context import Location, ReadContext
from sessiond.ingest.units import DatabaseUnit
from sessiond.reader import Digest
from sessiond.sources.base import DatabaseSource, Kind
from sessiond.sources.damaged import DAMAGED
from support.each_tool import each_tool
from support.sample_tree import NAMES, SAMPLES, build, built, open_store

PAGE = 512
DERIVED = {"amazon-q", "cursor", "kiro"}
"""Tools whose native ids are in no column, so that only their usual listing has them."""
WITH_STORES = [name for name in NAMES if any((SAMPLES / name).rglob("*.sql"))]
MOST_PAGES = 16


def damaged(path: Path) -> Iterator[int]:
    """Overwrite one page of a database at a time; iterate over their numbers."""
    database = open_store(path)
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute(f"PRAGMA page_size = {PAGE}")
    database.execute("VACUUM")  # small pages, so that a sample has several
    database.close()
    whole = path.read_bytes()
    pages = range(PAGE, len(whole), PAGE)
    for start in pages[:: 1 + len(pages) // MOST_PAGES]:
        path.write_bytes(whole[:start] + b"\xa5" * PAGE + whole[start + PAGE :])
        yield start // PAGE
    path.write_bytes(whole)


def listed(location: Location) -> tuple[set[str], list[str]]:
    """Return the sessions that a listing has, and what it reports."""
    unit = DatabaseUnit(location, CONTEXT)
    try:
        found = unit.sessions()
        return set(found.marks), found.troubles
    except ReadError as error:
        return set(), [str(error)]
    finally:
        unit.close()


def readable(location: Location, native_ids: Iterable[str]) -> dict[str, list[bytes]]:
    """Return the streams of those sessions that can be read, if their ids are known."""
    unit, found = DatabaseUnit(location, CONTEXT), {}
    try:
        for native_id in native_ids:
            try:
                found[native_id] = [engine.content(stream) for stream in unit.streams(native_id)]
            except (ReadError, *DAMAGED):
                continue
    finally:
        unit.close()
    return found


CONTEXT = ReadContext(digest=Digest(0), now_ms=engine.NOW_MS, scratch=os.devnull)


@each_tool(WITH_STORES)
def test_a_damaged_page_hides_no_session_that_can_be_read(name: str, tmp_path: Path) -> None:
    tree = build(name, tmp_path)
    for location in (each for each in engine.locations(tree) if each.unit.kind is Kind.DATABASE):
        native_ids, troubles = listed(location)
        whole = readable(location, native_ids)
        assert whole.keys() == native_ids and not troubles
        for page in damaged(Path(location.path)):
            found, troubles = listed(location)
            # What SQLite reads without an error may be other text, so only unchanged sessions are compared.
            there = {each for each, streams in readable(location, native_ids).items() if streams == whole[each]}
            assert there <= found or (troubles and location.source.tool in DERIVED), page


def test_every_database_with_ids_in_a_column_names_it() -> None:
    for name in WITH_STORES:
        for location in engine.locations(built(name)):
            if location.unit.kind is Kind.DATABASE:
                columns = cast(DatabaseSource, location.source).id_columns
                assert bool(columns) != (location.source.tool in DERIVED), name
