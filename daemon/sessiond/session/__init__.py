"""Sessions: the record, the entries that it is made of, and the fold that turns entries into the record.

Pure: no file, no clock, no network. Times are unix milliseconds up to the record.
"""

from __future__ import annotations

from sessiond.session.entry import ASSISTANT, USER, Entry, Role, parse_time
from sessiond.session.fold import Fold, copied_prefix_length, distinct, is_positional
from sessiond.session.item import Item, ItemKind, Media, Speaker, Usage
from sessiond.session.messages import NO_MODEL, Messages
from sessiond.session.record import Folds, Rules, Session, session_id, summarize

__all__ = [
    "ASSISTANT",
    "NO_MODEL",
    "USER",
    "Entry",
    "Fold",
    "Folds",
    "Item",
    "ItemKind",
    "Media",
    "Messages",
    "Role",
    "Rules",
    "Session",
    "Speaker",
    "Usage",
    "copied_prefix_length",
    "distinct",
    "is_positional",
    "parse_time",
    "session_id",
    "summarize",
]
