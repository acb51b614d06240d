"""All log events and their keys; docs/logging.md explains each one.

The list is closed so that a log can be shared: no key contains a prompt, an answer or a token.
"""

from __future__ import annotations

EVENTS: dict[str, frozenset[str]] = {
    event: frozenset(keys.split())
    for event, keys in {
        "daemon.started": "version pid machine state_dir endpoint tools",
        "daemon.stopped": "seconds",
        "config.reloaded": "files restart",
        "config.doubted": "reason",
        "config.refused": "file line key reason hint",
        "watch.found": "tool root",
        "watch.lost": "tool root",
        "watch.limited": "root reason hint",
        "watch.rescanned": "files changed seconds",
        "ingest.captured": "tool bytes",
        "ingest.skipped": "tool path reason",
        "ingest.damaged": "tool path records",
        "ingest.renewed": "segments",
        "backlog.paused": "work reason",
        "backlog.resumed": "work seconds",
        "spool.rebuilt": "path reason",
        "spool.removed": "path",
        "spool.filled": "reason free",
        "upload.acked": "sessions segments bytes seconds",
        "upload.failed": "endpoint reason retry_in",
        "upload.paused": "endpoint reason hint retry_in",
        "upload.resumed": "endpoint seconds",
        "upload.parked": "reason",
        "upload.healed": "streams",
        "upload.unparked": "machine_id items",
        "upload.compared": "bytes missing",
        "upload.uncompared": "reason",
        "erasure.acked": "sessions bytes",
        "erasure.failed": "reason",
        "verification.ended": "sessions incomplete",
        "verification.failed": "reason",
        "verification.compared": "bytes streams",
        "archive.copied": "endpoint",
        "archive.dropped": "sessions bytes",
        "archive.failed": "reason",
        "archive.kept": "reason",
        "endpoint.started": "url pid",
        "endpoint.stopped": "pid reason",
        "endpoint.failed": "reason",
        "endpoint.damaged": "stream generation reason",
        "endpoint.exhausted": "reason",
        "endpoint.answered": "method path status seconds token_name client",
        "upkeep.failed": "reason retry_in",
        "upkeep.expired": "sessions",
        "log.failed": "path reason",
        "library.warned": "library reason",
    }.items()
}

COMMON = frozenset({"timestamp", "level", "event", "repeated"})
"""Keys of every event."""
