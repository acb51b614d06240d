"""OpenCode, and its forks with the same store."""

from __future__ import annotations

from sessiond.sources.opencode.kin import ICodeMate, KiloCode, MiMoCode
from sessiond.sources.opencode.tool import OpenCode

SOURCES = (OpenCode(), KiloCode(), MiMoCode(), ICodeMate())
__all__ = ["SOURCES", "ICodeMate", "KiloCode", "MiMoCode", "OpenCode"]
