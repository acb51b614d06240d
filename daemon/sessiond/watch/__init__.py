"""Detects changed paths: events of watchdog, collected into a set of dirty paths, and a rescan behind them.

Rule 11: events are hints, the rescan is the guarantee. A path in a batch means that something changed there, not what.
The next scan of the root finds what events missed.

    watcher = Watcher([WatchedRoot(owner="codex", root=root), ...], WatchOptions(rescan=config.rescan))
    watcher.start()
    while running:
        batch = watcher.wait()
        for watched in batch.rescan:
            for path, stat in watcher.scan(watched): ...    # compare with the checkpoints
        for path in batch.paths: ...                        # read what was added
    watcher.close()                                         # or from another thread: wait() returns at once
"""

from __future__ import annotations

from sessiond.watch.roots import Batch, RescanReason, RootState, WatchedRoot, WatchMode
from sessiond.watch.scan import Found, scan
from sessiond.watch.watcher import Watcher, WatchOptions

__all__ = ["Batch", "Found", "RescanReason", "RootState", "WatchMode", "WatchOptions", "WatchedRoot", "Watcher", "scan"]
