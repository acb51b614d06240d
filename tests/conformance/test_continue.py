"""Facts about Continue: its index and its sessions."""

from __future__ import annotations

import json

from sessiond.sources.base import Kind, Unit
from sessiond.sources.continue_dev import Continue

ID = "00000001-0000-4000-8000-000000000001"
UNIT = Unit(kind=Kind.DOCUMENT, native_id=ID, timeless=True, beside=("sessions.json",))
OWN = {"sessionId": ID, "title": "Weaving", "dateCreated": "1775037601000", "workspaceDirectory": "file:///home/a%20b"}


def test_an_odd_entry_of_the_index_costs_no_other_session_its_start() -> None:
    """The index describes all sessions. A title that was cut inside an emoji, or an entry without an id, harms no other
    entry.
    """
    index = json.dumps([{"title": "cut \ud83d", "sessionId": "another"}, {}, OWN]).encode()
    entry = Continue().context({"sessions.json": index}, UNIT)
    assert entry is not None
    assert (entry.time_ms, entry.title, entry.cwd) == (1775037601000, "Weaving", "/home/a b")


def test_the_index_of_sessions_is_not_a_session() -> None:
    """A session's file is recognised by its name, which is the session id."""
    assert Continue().unit(f"{ID}.json") == UNIT
    assert Continue().unit("sessions.json") is None
