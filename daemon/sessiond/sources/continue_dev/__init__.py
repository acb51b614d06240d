"""Continue, its IDE extension and its CLI, and what was made of it."""

from __future__ import annotations

from sessiond.sources.continue_dev.pearai import PearAI
from sessiond.sources.continue_dev.tool import Continue

SOURCES = (Continue(), PearAI())
__all__ = ["SOURCES", "Continue", "PearAI"]
