"""Every file below the session directories of every sample is in a stream, or the source's gaps name it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from conformance import engine
from lab.captured import check_files, files_beside
from support.each_tool import each_tool
from support.sample_tree import NAMES, built

UNATTRIBUTED = {"claude-code/2.1-history": {".claude/history.jsonl"}}
"""Files of samples with a line that no stream has: its first prompt, of version 1, names no session (see gaps)."""


class Sessions:
    """The ids of captured sessions, as the tool has them or as the endpoint has them."""

    def __init__(self, ids: set[uuid.UUID], native: set[str]) -> None:
        self.ids = {str(each) for each in ids}
        self.native = native

    def __contains__(self, identity: object) -> bool:
        return identity in self.ids or identity in self.native

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids | self.native)

    def __len__(self) -> int:
        return len(self.ids | self.native)


@each_tool(NAMES)
def test_every_file_of_a_sample_is_captured_or_named(name: str) -> None:
    """No byte that a tool wrote beside its sessions is left out in silence."""
    tree = built(name)
    units = engine.units(tree)
    contents: list[bytes] = []
    native: set[str] = set()
    read: set[str] = set()
    for location in [*units.locations, *units.side_files]:
        read |= {location.path, *files_beside(location, engine.NOW_MS)}
        with engine.streams(location) as streams:
            contents += [engine.content(stream) for stream in streams]
            native |= {stream.native_id for stream in streams if stream.native_id}
    sessions = Sessions(set(engine.capture(tree)), native)
    found = check_files(tree, units.roots, contents, read, sessions)
    assert set(found.missing) == UNATTRIBUTED.get(name, set())
