"""Gemini CLI and what was made of it."""

from __future__ import annotations

from sessiond.sources.gemini.cli import GeminiCli
from sessiond.sources.gemini.qwen import QwenCode

SOURCES = (GeminiCli(), QwenCode())
__all__ = ["SOURCES", "GeminiCli", "QwenCode"]
