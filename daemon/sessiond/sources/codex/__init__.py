"""Codex, and what was made of it."""

from __future__ import annotations

from sessiond.sources.codex.kin import OpenInterpreter, TraeX
from sessiond.sources.codex.tool import Codex

SOURCES = (Codex(), OpenInterpreter(), TraeX())
__all__ = ["SOURCES", "Codex", "OpenInterpreter", "TraeX"]
