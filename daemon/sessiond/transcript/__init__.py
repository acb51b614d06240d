"""Transcripts as items: what `show`, exports and search loop over. Nothing here knows a tool.

items.py    the items of a stream, each with the position of its record
"""

from __future__ import annotations

from sessiond.transcript.items import Place, Placed, merge, read_items

__all__ = ["Place", "Placed", "merge", "read_items"]
