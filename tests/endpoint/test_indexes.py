"""Lists with any filter read an index, and of the sessions themselves only those of the page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from endpoint_lines import SESSION, Pusher, append, record, sender, store_push
from stores import new_store

from sessiond.endpoint.server import changes, listing
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.listing import Filter, Order
from sessiond.endpoint.server.push import PushRequest
from sessiond.endpoint.server.records import BLOCK, PLACE, View
from sessiond.endpoint.server.run import running_store
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.wire import Limits

TOKEN = "sd_" + "i" * 43
MOMENT = datetime(2026, 11, 1, tzinfo=UTC)
FILTERS: dict[str, Any] = {
    "tool": "codex",
    "machine_id": "ada",
    "id": "0198",
    "since": MOMENT,
    "until": MOMENT,
    "text": "engine",
    "branch": "main",
    "model": "gpt",
    "gone": True,
}


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Yield an empty store of each kind."""
    with new_store(request.param, tmp_path / "store") as it:
        yield it


class Recorder:
    """A connection that keeps the statements that run."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.statements: list[tuple[str, Any]] = []

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        self.statements.append((sql, parameters))
        return self._db.execute(sql, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def plan(db: Database, sql: str, parameters: Any) -> list[str]:
    """Return the lines of the plan of a statement."""
    if hasattr(db, "in_transaction"):
        return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    db.execute("SET LOCAL enable_seqscan = off")  # a small table would be read as a whole, whatever its indexes are
    return [row[0] for row in db.execute(f"EXPLAIN {sql}", parameters)]


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("chosen", [None, *FILTERS])
def test_each_list_reads_an_index(store: Store, order: Order, chosen: str | None) -> None:
    """Also the position of a later page is found in it."""
    wanted = Filter(**({} if chosen is None else {chosen: FILTERS[chosen]}))
    with store.read() as db:
        recorder: Any = Recorder(db)
        listing.list_sessions(recorder, View(user="default"), wanted, None, 100, order)
        (sql, parameters), *_ = recorder.statements
        lines = plan(db, sql, parameters)
    check(lines, "sessions_by_start", "sessions_by_active")


def check(lines: list[str], *indexes: str) -> None:
    """Check that no table is read as a whole, and that one of these indexes is used."""
    text = "\n".join(lines)
    assert "Seq Scan" not in text
    assert not any(line.startswith("SCAN") and line != "SCAN k" for line in lines), text
    inner = [line for line in lines if any(index in line for index in indexes)]
    assert inner, text
    assert all("COVERING" in line or "Index Only Scan" in line for line in inner if "USING" in line), text


def test_the_changes_are_read_from_their_index(store: Store) -> None:
    """A page costs the same at any position."""
    with store.read() as db:
        recorder: Any = Recorder(db)
        changes.list_changes(recorder, View(user="default"), store.endpoint_id, None, 100)
        (found,) = [each for each in recorder.statements if "FROM sessions" in each[0]]
        text = "\n".join(plan(db, *found))
    assert "sessions_by_change" in text
    assert "Seq Scan" not in text


def push_session(store: Store, number: int, **fields: Any) -> None:
    """Push a record and a stream."""
    session = f"{SESSION[:-4]}{number:04}"
    lines = [record(id=session, **fields), append(0, b"x" * (number % 7 + 1), session=session)]
    request = PushRequest(store, Limits(), sender())
    results = store_push(store, request, *map(msgspec.json.encode, lines)).results  # type: ignore[arg-type]
    assert [each.status for each in results] == ["stored", "stored"]


def test_the_streams_of_a_page_are_read_together(store: Store) -> None:
    """The number of statements does not grow with the sessions, and each has its own streams."""
    for number in range(BLOCK + 5):
        push_session(store, number)
    with store.read() as db:
        recorder: Any = Recorder(db)
        found = listing.list_sessions(recorder, View(user="default"), Filter(), None, 1000)
    assert len(found.sessions) == BLOCK + 5
    assert len(recorder.statements) == 3
    for each in found.decoded().sessions:
        (held,) = each.held
        assert (held.name, held.length) == ("main", int(str(each.record.id)[-4:]) % 7 + 1)


def test_long_values_are_stored_and_found(store: Store) -> None:
    """An index row of PostgreSQL has a limit. A part at the end of a long directory is found as well."""
    deep = "/home/" + "Sub-\u00c9/" * 4000 + "Engine"
    long = {"tool": "t" * 5000, "git_branch": "b" * 5000, "model": "m" * 5000}
    with running_store(store, TOKEN) as it, Pusher(it.url, TOKEN) as pusher:
        assert pusher.said(record(working_directory=deep, **long)) == ["stored"]

        def count(**filters: str) -> int:
            return len(pusher.get("/v1/sessions", params=filters).json()["sessions"])

        (found,) = pusher.get("/v1/sessions").json()["sessions"]
        assert found["record"]["working_directory"] == deep
        assert found["record"]["tool"] == long["tool"]
        assert count(text="engine") == count(text="HOME/sub-\u00c9") == 1
        assert count(text="engines") == count(tool="t", branch="b" * 99) == 0
        assert count(tool="t" * 60 + "x") == 0
        assert len(deep) > PLACE
        assert count(model="MMM") == 1
