"""Hermes Agent."""

from __future__ import annotations

from sessiond.sources.hermes.tool import Hermes

SOURCES = (Hermes(),)
__all__ = ["SOURCES", "Hermes"]
