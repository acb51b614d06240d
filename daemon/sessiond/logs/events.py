"""Every event that is ever logged, and the keys it may carry; docs/logging.md says what each one means.

The list is closed so that a log can be shown to anybody: no key holds a prompt, an answer or a token.
"""

from __future__ import annotations

EVENTS: dict[str, frozenset[str]] = {
    event: frozenset(keys.split())
    for event, keys in {
        "daemon.started": "version pid machine state_dir endpoint tools",
        "daemon.stopped": "reason seconds sessions segments",
        "daemon.crashed": "thread reason",
        "daemon.resumed": "seconds",
        "config.reloaded": "files",
        "config.refused": "file line key reason hint",
        "config.doubted": "reason",
        "watch.found": "tool root",
        "watch.lost": "tool root",
        "watch.overflowed": "root",
        "watch.limited": "root reason limit hint",
        "watch.rescanned": "files changed seconds",
        "ingest.captured": "tool session stream records bytes",
        "ingest.skipped": "tool path reason",
        "ingest.damaged": "tool path records",
        "ingest.drifted": "tool kind records",
        "ingest.deferred": "files bytes",
        "ingest.quarantined": "tool path reason",
        "spool.migrated": "previous version",
        "spool.rebuilt": "path reason",
        "spool.filled": "reason free",
        "spool.recovered": "seconds",
        "upload.acked": "sessions segments bytes seconds",
        "upload.failed": "endpoint status reason retry_in",
        "upload.paused": "endpoint reason hint",
        "upload.resumed": "endpoint seconds",
        "upload.parked": "session stream problem reason",
        "upload.healed": "streams",
        "endpoint.started": "url pid",
        "endpoint.stopped": "pid reason",
        "endpoint.failed": "reason",
        "library.warned": "library reason",
    }.items()
}

COMMON = frozenset({"timestamp", "level", "event", "repeated"})
"""Keys of every event."""
