"""OpenHands, its CLI and the server before it (V0)."""

from __future__ import annotations

from sessiond.sources.openhands.tool import OpenHands

SOURCES = (OpenHands(),)
__all__ = ["SOURCES", "OpenHands"]
