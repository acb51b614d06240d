"""Restores a session of any machine: fetches it from the endpoint, and carries out the plan of its tool's recipe."""

from __future__ import annotations

from sessiond.restore.cleanup import keep_from_cleanup
from sessiond.restore.engine import Restoration, Restorer, read_linked, read_small
from sessiond.restore.fetch import Archive, Sessions, last_active, latest, missing
from sessiond.restore.journal import Conflict
from sessiond.restore.marks import Here, identity_here, marked
from sessiond.restore.masked import masked_notes

__all__ = [
    "Archive",
    "Conflict",
    "Here",
    "Restoration",
    "Restorer",
    "Sessions",
    "identity_here",
    "keep_from_cleanup",
    "last_active",
    "latest",
    "marked",
    "masked_notes",
    "missing",
    "read_linked",
    "read_small",
]
