"""Continue, its IDE extension and its CLI."""

from __future__ import annotations

from sessiond.sources.continue_dev.tool import Continue

SOURCES = (Continue(),)
__all__ = ["SOURCES", "Continue"]
