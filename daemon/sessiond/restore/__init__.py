"""Restores a session of any machine: fetches it from the endpoint, and carries out the plan of its tool's recipe."""

from __future__ import annotations

from sessiond.restore.engine import Restoration, Restorer, read_small
from sessiond.restore.fetch import Archive, latest, missing
from sessiond.restore.marks import marked

__all__ = ["Archive", "Restoration", "Restorer", "latest", "marked", "missing", "read_small"]
