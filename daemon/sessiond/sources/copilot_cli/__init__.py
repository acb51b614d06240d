"""GitHub Copilot CLI."""

from __future__ import annotations

from sessiond.sources.copilot_cli.tool import CopilotCli

SOURCES = (CopilotCli(),)
__all__ = ["SOURCES", "CopilotCli"]
