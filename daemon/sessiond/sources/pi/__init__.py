"""Pi, and what is built on it."""

from __future__ import annotations

from sessiond.sources.pi.openclaw import OpenClaw
from sessiond.sources.pi.tool import Pi

SOURCES = (Pi(), OpenClaw())
__all__ = ["SOURCES", "OpenClaw", "Pi"]
