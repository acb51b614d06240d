"""Lists the files below the roots that are not captured: what looks like a session, and side files of unknown ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

import msgspec

from sessiond.config import Config
from sessiond.errors import Unsafe
from sessiond.ingest import Index
from sessiond.sources import find_roots
from sessiond.sources.base import Kind
from sessiond.sources.links import Link, linked_root
from sessiond.spool import Spool
from sessiond.watch.scan import FurtherSearch, ScanStats, scan

NOT_SEARCHED = "looks like a session, but is in a directory that is not searched"
UNKNOWN_FORMAT = "looks like a session, but has an unknown name or place"
NO_SESSION = "its session is not captured"


class Uncaptured(msgspec.Struct, frozen=True, order=True):
    """A file that is not captured."""

    path: str
    reason: str


def find_uncaptured(
    config: Config, environ: Mapping[str, str], state_dir: str, spool: Spool | None
) -> dict[str, list[Uncaptured]]:
    """Scan the roots and return the files of each tool that are not captured, ordered by path.

    The daemon only counts them. Their paths are not stored, because they may name projects that are excluded. Without a
    spool it is unknown which side files are captured, so none is listed.
    """
    roots = find_roots(config, environ)
    index, found = Index(roots), dict[str, set[Uncaptured]]()
    for source, root in roots:  # the list grows by the roots that links lead to
        stats = ScanStats()
        for path, stat in scan(root, stats=stats):
            if stat.st_size:
                for tool, reason in _reasons(index, spool, path):
                    found.setdefault(tool, set()).add(Uncaptured(path, reason))
        for path in FurtherSearch(stats.passed_over).files():
            for tool in index.passed_over(path):
                found.setdefault(tool, set()).add(Uncaptured(path, NOT_SEARCHED))
        for path in stats.links:
            with suppress(Unsafe):  # the daemon reports the links that are not followed
                target = linked_root(Link(source, root, path), roots, state_dir)
                roots += [(source, target)] if target is not None else []
    return {tool: sorted(files) for tool, files in found.items()}


def _reasons(index: Index, spool: Spool | None, path: str) -> Iterator[tuple[str, str]]:
    """Iterate over (tool, reason) of a file that is not captured."""
    units = list(index.units(path))
    if not units:
        for tool in index.unrecognized(path):
            yield tool, UNKNOWN_FORMAT
    for source, _, _, unit in units:
        if unit.kind is Kind.FILE and spool is not None and not _is_captured(spool, path):
            yield source.tool, NO_SESSION


def _is_captured(spool: Spool, path: str) -> bool:
    known = spool.catalog.file(path)
    return known is not None and (known.stream is not None or known.trouble is not None)
