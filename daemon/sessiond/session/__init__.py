"""What a session is: the record, the entries it is made of, and the fold from one to the other.

Pure: no file, no clock, no network. Times are unix milliseconds until they reach the record.
"""

from __future__ import annotations

from sessiond.session.entry import ASSISTANT, USER, Entry, Role, parse_time
from sessiond.session.fold import Fold, distinct, placed, replayed
from sessiond.session.messages import NOBODY, Messages
from sessiond.session.record import Rules, Session, session_id, summarize

__all__ = [
    "ASSISTANT",
    "NOBODY",
    "USER",
    "Entry",
    "Fold",
    "Messages",
    "Role",
    "Rules",
    "Session",
    "distinct",
    "parse_time",
    "placed",
    "replayed",
    "session_id",
    "summarize",
]
