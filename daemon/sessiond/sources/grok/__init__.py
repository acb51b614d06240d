"""Grok Build."""

from __future__ import annotations

from sessiond.sources.grok.tool import GrokBuild

SOURCES = (GrokBuild(),)
__all__ = ["SOURCES", "GrokBuild"]
