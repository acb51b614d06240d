"""Claude Code, and what writes its format."""

from __future__ import annotations

from sessiond.sources.claude_code.kin import IFlow, OpenClaude
from sessiond.sources.claude_code.tool import ClaudeCode

SOURCES = (ClaudeCode(), OpenClaude(), IFlow())
__all__ = ["SOURCES", "ClaudeCode", "IFlow", "OpenClaude"]
