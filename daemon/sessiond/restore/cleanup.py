"""Keeps a tool from deleting a session that was just restored because it is old."""

from __future__ import annotations

from msgspec.structs import replace

from sessiond.cleanup import DAY_MS, DUE_DAYS
from sessiond.sources import find_sources
from sessiond.sources.plan import Plan
from sessiond.sources.user_dirs import UserDirs


def keep_from_cleanup(plan: Plan, tool: str, dirs: UserDirs, now_ms: int) -> Plan:
    """Return the plan with the time of restoring for files that the tool would soon delete because of their age.

    Files have the time of the session's last activity otherwise. With it, the next start of the tool would delete an
    old session before the user resumes it.
    """
    found = [source.retention(dirs) for source in find_sources() if source.tool == tool]
    days = min((retention.days for retention in found if retention is not None), default=None)
    if days is None:
        return plan
    due_ms = now_ms - max(0, days - DUE_DAYS) * DAY_MS
    if all(file.mtime_ms >= due_ms for file in plan.files):
        return plan
    files = tuple(replace(file, mtime_ms=max(file.mtime_ms, now_ms)) for file in plan.files)
    note = f"the files have today's date, because {tool} deletes sessions that are older than {days} days"
    return replace(plan, files=files, notes=(*plan.notes, note))
