"""A restored sample is captured again as it was: with the same id and the same bytes of its conversation."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from uuid import UUID

from conformance import engine
from sessiond.restore import Restorer, read_linked, read_small
from sessiond.session import session_id
from sessiond.sources.base import UserDirs
from sessiond.sources.plan import RECORDS, ArchivedSession, ArchivedStream, Plan, Target, Unrestorable
from sessiond.sources.recipes import find_recipe
from support.each_tool import each_tool
from support.sample_tree import NAMES, built

REBUILT = {"pi", "qwen-code", "droid", "kimi", "mistral-vibe"}
"""Tools whose transcript gets the directory of this machine, so that its bytes differ."""
REFUSED = {"openhands/v0", "claude-code/2.1-history", "kimi/code-import-2"}
"""Samples with no session that can be restored."""
CHANGED = {
    "continue": ("session",),
    "grok-build": ("summary", "prompts", "spawned"),
    "openhands": ("state", "usage-agent"),
}
"""Streams that get the directory of this machine, that the tool makes again, or that it does not need."""
MACHINE = "testbox"
RESTORABLE = {"aider", "claude-code", "continue", "droid", "grok-build", "kimi", "openhands"}
SAMPLES = [name for name in NAMES if name.split("/")[0] in RESTORABLE]


def contents(tree: str, tool: str) -> dict[UUID, dict[str, tuple[str, bytes]]]:
    """Map each session of a tool to the media type and the bytes of its streams."""
    found: dict[UUID, dict[str, tuple[str, bytes]]] = {}
    for location in chain(engine.locations(tree), engine.side_files(tree)):
        if location.source.tool != tool:
            continue
        with engine.streams(location) as streams:
            for stream in streams:
                native_id = stream.native_id or location.unit.native_id
                if native_id is None:
                    continue
                identity = session_id(tool, native_id, MACHINE if location.source.local_ids else "")
                media = location.unit.media_type or RECORDS
                found.setdefault(identity, {})[stream.name] = (media, engine.content(stream))
    return found


def archived(tree: str, tool: str) -> Iterator[ArchivedSession]:
    """Iterate the sessions of a sample as an endpoint has them."""
    streams = contents(tree, tool)
    for identity, found in engine.capture(tree).items():
        if found.session.tool == tool:
            kept = [
                ArchivedStream(name=name, media_type=media, length=len(data), read=lambda data=data: iter([data]))
                for name, (media, data) in streams.get(identity, {}).items()
            ]
            yield ArchivedSession(record=found.session, title=found.title, streams=tuple(kept))


def target(home: Path, tool: str) -> Target:
    """Return a project in an empty home; Aider's history is found in the home itself."""
    project = home if tool == "aider" else home / "src" / "my_other.proj"
    project.mkdir(parents=True, exist_ok=True)
    dirs = UserDirs(home=str(home), environ={}, platform="linux")
    return Target(
        dirs=dirs,
        directory=str(project),
        exists=os.path.lexists,
        read=read_small,
        read_linked=read_linked,
        names=_names,
    )


def _names(directory: str) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []


def restore(home: Path, session: ArchivedSession) -> Plan | None:
    """Restore a session; return the plan, None if the recipe refuses it."""
    recipe = find_recipe(session.record.tool)
    assert recipe is not None
    try:
        plan = recipe.plan(session, target(home, session.record.tool))
    except Unrestorable:
        return None
    restorer = Restorer(str(home.parent / "state"), {}, lambda *_: [])
    assert restorer.scratch
    restorer.carry_out(restorer.check(plan))
    return plan


@each_tool(SAMPLES)
def test_a_restored_session_is_captured_as_it_was(name: str, tmp_path: Path) -> None:
    """Restoring it again finds everything there."""
    tool, home = name.split("/")[0], tmp_path / "home"
    starts = Counter(each.record.started_at for each in archived(built(name), tool))
    # Sessions of Aider that began in the same second differ in their number in the file.
    sessions = [each for each in archived(built(name), tool) if tool != "aider" or starts[each.record.started_at] == 1]
    restored = [each for each in sessions if restore(home, each) is not None]
    assert bool(restored) is (name not in REFUSED)
    found = contents(str(home), tool)
    after = engine.capture(str(home)) if restored else {}
    for each in restored:
        identity = each.record.id
        there = found[identity]
        for stream in each.streams:
            if stream.name in CHANGED.get(tool, ()) or (tool in REBUILT and stream.has_records):
                continue
            assert there[stream.name][1] == b"".join(stream.read()), stream.name
        assert after[identity].session.message_count == each.record.message_count
        plan = find_recipe(tool).plan(each, target(home, tool))  # type: ignore[union-attr]
        assert Restorer(str(tmp_path / "state"), {}, lambda *_: []).check(plan).complete
