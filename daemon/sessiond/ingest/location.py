"""Locates a path: the root it is below, the source that owns it, and the unit that the source takes it for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from sessiond.ingest.stream_names import sanitize
from sessiond.sources.base import Root, Source, Unit, Watch
from sessiond.sources.links import ITSELF, find_unit, unit_below_link
from sessiond.sources.unrecognized import looks_like_session, resembles_unit

RECENT = 1000
"""Directories whose roots are kept."""


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """A path below a root of a source, and the unit that the source takes it for."""

    source: Source
    root: str
    relative: str
    unit: Unit
    cwd: str = ""
    link: Root | None = None
    """The root, if it has a prefix (see `Root`): mostly because it is the target of a link."""

    @property
    def below(self) -> str:
        """The path of the unit, relative to the root. It may differ from `relative`: the database of a changed -wal."""
        return self.unit.path or self.relative

    @property
    def name(self) -> str:
        """The path of the unit as its source has it: relative to the outermost root, if a link leads here."""
        if self.link is None:
            return self.below
        if self.unit.path == ITSELF:
            return self.link.prefix.rstrip("/")
        only = self.link.only if isinstance(self.link.only, str) else ""
        return self.link.prefix + self.below[len(only) :]

    @property
    def file_name(self) -> str:
        """The name of the unit, without its directories."""
        return self.below[self.below.rfind("/") + 1 :]

    @property
    def path(self) -> str:
        """The absolute path of the unit."""
        # os.path.join() takes ten times as long, and a scan asks for each file several times.
        if self.unit.path == ITSELF:
            return self.root
        return f"{self.root}{'' if self.root.endswith('/') else '/'}{self.below}"

    def resolve(self, name: str) -> tuple[str, str]:
        """Return a directory and the path below it, of another file of the session; see `Root.resolve`."""
        return (self.link or Root(path=self.root)).resolve(name)


class Index:
    """Maps a path to the sources that own it, by its parent directories instead of a scan over all roots."""

    def __init__(self, roots: Sequence[tuple[Source, Root]]) -> None:
        """`roots` may grow later: new projects add roots while the daemon runs."""
        self._all_roots = roots
        self._known = 0
        self._below: dict[str, list[int]] = {}
        self._recent: dict[str, list[tuple[Source, Root, int]]] = {}
        """The roots of recent directories: a path is located several times, and others are in its directory."""

    def __call__(self, path: str) -> list[Location]:
        """Return the locations of a path, in the order of the roots. Sources may share a root; most paths have none."""
        return [
            Location(
                source=source,
                root=root.path,
                relative=relative,
                unit=sanitize(unit),
                cwd=root.cwd,
                link=root if root.prefix else None,
            )
            for source, root, relative, unit in self.units(path)
        ]

    def units(self, path: str) -> Iterator[tuple[Source, Root, str, Unit]]:
        """Iterate over (source, root, relative path, unit) of a path; names are as the source has them."""
        for source, root, length in self._roots_of(path):
            relative = path[length:]
            if root.only and not root.prefix and not relative.startswith(root.only):
                continue
            unit = (unit_below_link if root.prefix else find_unit)(source, root, relative)
            if unit is not None:
                yield source, root, relative, unit

    def unrecognized(self, path: str) -> set[str]:
        """Return the tools for which a path that belongs to no unit looks like a session."""
        return {
            source.tool
            for source, root, length in self._roots_of(path)
            if looks_like_session(source, root, path[length:])
        }

    def passed_over(self, path: str) -> set[str]:
        """Return the tools for which a file in a directory that no scan reads looks like a session."""
        if any(root.searches(path) for _, root, _, _ in self.units(path)):
            return set()
        return {
            source.tool
            for source, root, length in self._roots_of(path)
            if not root.searches(path) and resembles_unit(source, root, path[length:])
        }

    def _roots_of(self, path: str) -> list[tuple[Source, Root, int]]:
        """Return the roots that contain a path, each with the length of its path and a slash."""
        if self._known != len(self._all_roots) or len(self._recent) > RECENT:
            self._recent.clear()
        directory = path[: path.rfind("/") + 1]
        above = self._recent.get(directory)
        if above is None:
            above = self._recent[directory] = self._roots_above(directory)
        # A folder that is the target of a link is a root of its own. Only that root can open it.
        linked = [self._all_roots[number] for number in self._below.get(path, ())]
        return [(source, root, len(path)) for source, root in linked if root.prefix and not root.only] or above

    def _roots_above(self, directory: str) -> list[tuple[Source, Root, int]]:
        """Return the roots that contain a directory, each with the length of its path and a slash."""
        for number in range(self._known, len(self._all_roots)):
            self._below.setdefault(self._all_roots[number][1].path.rstrip("/"), []).append(number)
        self._known = len(self._all_roots)
        numbers, cut = list[int](), directory.rfind("/")
        while cut >= 0:
            numbers += self._below.get(directory[:cut], ())
            cut = directory.rfind("/", 0, cut)
        found = [self._all_roots[number] for number in sorted(numbers)]
        # A file below the target of a link is opened by the root that the target is. The root that has the link does
        # not follow it.
        linked = {source: root.path for source, root in found if root.prefix and not root.only}
        found = [(source, root) for source, root in found if len(root.path) >= len(linked.get(source, ""))]
        # As in a scan, a flat root has only the files directly in it. Such a root may be above most transcripts: one
        # is the home.
        found = [(source, root) for source, root in found if not _is_flat(root) or _in_root(directory, root)]
        return [(source, root, len(root.path.rstrip("/")) + 1) for source, root in found]


def _is_flat(root: Root) -> bool:
    return root.watch is Watch.FLAT or root.depth == 0


def _in_root(directory: str, root: Root) -> bool:
    return directory.rstrip("/") == root.path.rstrip("/")


def locate(roots: Sequence[tuple[Source, Root]], path: str) -> list[Location]:
    """Return the locations of one path; see Index."""
    return Index(roots)(path)
