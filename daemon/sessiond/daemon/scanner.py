"""Scans the roots: compares the stat of every file with that of its last read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

import msgspec

from sessiond.cleanup import due_before
from sessiond.daemon.backlog import Entry
from sessiond.daemon.inventory import (
    Change,
    Counts,
    Inventory,
    count,
    entries,
    forget_below,
    load_inventory,
    make_fingerprint,
)
from sessiond.daemon.resources import Resources
from sessiond.ingest import Index, Location
from sessiond.logs import log
from sessiond.sources.base import UserDirs
from sessiond.watch import WatchedRoot, Watcher
from sessiond.watch.scan import FurtherSearch, ScanStats

LOOK_FURTHER_S = 86_400
"""Between two searches of the directories that scans pass over. Nothing in them is captured, so nothing is urgent."""


class ScanResult(msgspec.Struct, frozen=True):
    """What a scan found."""

    entries: Collection[Entry] = ()
    """Files to read because their stat changed."""
    gone: Collection[str] = ()
    """Files that vanished."""
    live: frozenset[tuple[str, str]] = frozenset()
    """(tool, native id) of the sessions whose process runs: they stay ongoing, however long they are idle."""


class Scanner:
    """Finds what events missed (rule 11: the rescan is the guarantee). Only the capture thread uses it."""

    further_entries = 5_000
    """Files and directories at which a scan looks in directories that are passed over; the next scan goes on."""

    def __init__(self, resources: Resources, watcher: Watcher) -> None:
        self._resources, self._watcher = resources, watcher
        self._index = Index(resources.roots)
        self.inventory: Inventory = {}
        """The stat of each file when it was last read or queued."""
        self._rereads = 0
        """The count of marked files (Catalog.rereads) when the inventory was loaded."""
        self.sources = {source.tool: source for source, _ in resources.roots}
        self.counts: Counts | None = None
        """What the inventory has; None before the first scan."""
        self._passed_over = Counter[str]()
        """Files of each tool that look like sessions, in directories that are not searched."""
        self._search = FurtherSearch(())
        self._search_began = -math.inf
        self._search_found = Counter[str]()
        self.project_search_due = False
        """Whether sessions may name new projects since the last scan."""

    def locate(self, path: str) -> Sequence[Location]:
        """Return the locations of a path: one for each source that owns it."""
        return self._index(path)

    @property
    def must_reread(self) -> bool:
        """Whether files were marked to be read again: exclusions were lifted, or another endpoint answered."""
        return self._resources.spool.catalog.rereads != self._rereads

    def forget(self, path: str) -> bool:
        """Forget a file, so that the next scan reports it even if it does not change; return whether it was known."""
        return self.inventory.pop(path, None) is not None

    def forget_below(self, directory: str) -> list[str]:
        """Forget the files below a directory that was deleted, and return them."""
        return forget_below(self.inventory, directory)

    def scan(self, roots: Collection[WatchedRoot]) -> ScanResult:
        """Scan roots; return the files that changed without an event, and those that vanished."""
        began, first = self._resources.clock.monotonic(), self.counts is None
        self._resources.apply_exclusions()
        if first or self.must_reread:
            self._rereads = self._resources.spool.catalog.rereads
            self.inventory = load_inventory(self._resources.spool)
        seen, changed = self._compare(roots)
        environ = self._resources.environ
        due = due_before(environ, self._resources.clock.now_ms()) if changed else {}
        found = list(entries(changed, self.inventory, self._index, self._resources.clock.now_ms(), due))
        self.inventory |= {each.path: each.fingerprint for each in changed}
        gone = [path for path in self.inventory if path not in seen and any(root.root.covers(path) for root in roots)]
        for path in gone:
            del self.inventory[path]
        found_further = self._search_further()
        if first or changed or gone or found_further:
            counts = count(self.inventory, self._index)
            self.counts = counts._replace(unrecognized=counts.unrecognized + self._passed_over)
            self._resources.release_memory()
            log.debug(
                "watch.rescanned",
                files=len(seen),
                changed=len(changed),
                seconds=round(self._resources.clock.monotonic() - began, 3),
            )
        self.project_search_due = True
        return ScanResult(found, gone, self._live_sessions())

    def _compare(self, roots: Collection[WatchedRoot]) -> tuple[set[str], list[Change]]:
        """Return the paths below the roots, and the files among them whose stat changed."""
        self._resources.forget_removed_links()
        seen, changed, passed_over = set[str](), list[Change](), list[str]()
        pending = list(roots)
        for root in pending:
            stats = ScanStats()
            for path, found in self._watcher.scan(root, stats):
                seen.add(path)
                made = make_fingerprint(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
                if self.inventory.get(path) != made:
                    changed.append(Change(path, found.st_mtime_ns, made))
            passed_over += stats.passed_over
            # A file that was captured through a link counts as gone only if the target of the link lacks it too.
            pending += self._resources.follow_links(root, stats.links, self._watcher)
        now = self._resources.clock.monotonic()
        if now - self._search_began >= LOOK_FURTHER_S and set(self._resources.watched) <= set(pending):
            self._search, self._search_found = FurtherSearch(passed_over), Counter()
            self._search_began = now
        return seen, changed

    def _search_further(self) -> bool:
        """Go on with the search in directories that scans pass over; return whether its result changed.

        Until the search is complete, its result for each tool counts only if it exceeds that of the search before.
        """
        before = self._passed_over
        for path in self._search.files(self.further_entries):
            self._search_found.update(self._index.passed_over(path))
        self._passed_over = +self._search_found if self._search.complete else before | self._search_found
        return self._passed_over != before

    def _live_sessions(self) -> frozenset[tuple[str, str]]:
        dirs = UserDirs.current(self._resources.environ)
        return frozenset((tool, native_id) for tool, each in self.sources.items() for native_id in each.live(dirs))

    def find_projects(self) -> None:
        """After a scan: watch the projects that new sessions name."""
        if self.project_search_due:
            self.project_search_due = False
            self._resources.discover_project_roots(self._watcher)
