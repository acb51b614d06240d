"""The tools that sessiond reads: a module for each tool, named after it, and the shapes that tools share.

docs/formats/ has a page for each tool with the facts that its source relies on.
"""

from __future__ import annotations

from sessiond.sources.registry import (
    find_further_homes,
    find_project_roots,
    find_roots,
    find_side_roots,
    find_sources,
    find_variables,
)
from sessiond.sources.unreadable import UNREADABLE, Unreadable

__all__ = [
    "UNREADABLE",
    "Unreadable",
    "find_further_homes",
    "find_project_roots",
    "find_roots",
    "find_side_roots",
    "find_sources",
    "find_variables",
]
