"""What a session is: the record, the entries it is made of, and the fold from one to the other.

Pure: no file, no clock, no network. Times are unix milliseconds until they reach the record.
"""

from __future__ import annotations

from sessiond.session.entry import Entry, Role, parse_time
from sessiond.session.fold import Fold, replayed
from sessiond.session.record import Rules, Session, session_id, summarize

__all__ = ["Entry", "Fold", "Role", "Rules", "Session", "parse_time", "replayed", "session_id", "summarize"]
