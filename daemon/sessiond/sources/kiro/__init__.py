"""Amazon Q Developer CLI and its successor, Kiro's command line."""

from __future__ import annotations

from sessiond.sources.kiro.tool import AmazonQ, Kiro

SOURCES = (AmazonQ(), Kiro())
__all__ = ["SOURCES", "AmazonQ", "Kiro"]
