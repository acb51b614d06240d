"""Restores conversations of the OpenHands CLI: a file for each event, with its number and id in the name.

OpenHands makes `base_state.json` again from its own settings. See docs/formats/openhands.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from sessiond.sources.plan import ArchivedSession, Command, Plan, PlannedFile, Recipe, Target, Unrestorable

EVENT_ID = re.compile(r"[0-9A-Za-z][\w-]{0,99}", re.ASCII)
EVENT = re.compile(r"event-(\d+)-.+\.json")


class _Event(msgspec.Struct):
    id: str
    kind: str


EVENT_RECORD = msgspec.json.Decoder(_Event)


class OpenHandsRecipe(Recipe):
    """Writes the events as the archive has them: with their values, and without spaces between these."""

    def plan(self, session: ArchivedSession, target: Target) -> Plan:
        """Return the plan. Raises: Unrestorable."""
        dirs, name = target.dirs, session.record.id.hex
        base = dirs.from_variable("OPENHANDS_CONVERSATIONS_DIR")
        home = dirs.from_variable("OPENHANDS_PERSISTENCE_DIR") or f"{dirs.home}/.openhands"
        base = base or f"{home}/conversations"
        folder = f"{base}/{name}/events"
        lines = enumerate(session.stream().lines())
        events = [(f"event-{number:05d}-{_id(line)}.json", line) for number, line in lines]
        # An event of this machine that the archive lacks would get the number of another one: two continuations of
        # one conversation, of which the tool reads a mixture.
        strange = {each for each in target.names(folder) if EVENT.fullmatch(each)} - {each for each, _ in events}
        if strange:
            raise Unrestorable(f"{folder} has events that the archive does not have: {min(strange)}")
        return Plan(
            base=base,
            files=tuple(_file(f"{folder}/{each}", line, session.active_ms) for each, line in events),
            resume=Command(argv=("openhands", "--resume", name), directory=target.directory),
            notes=("the system prompt in the first event still names the directory of the other machine",),
            programs=("openhands",),
        )


def _id(line: bytes) -> str:
    """Return the id of an event. Raises: Unrestorable."""
    try:
        event = EVENT_RECORD.decode(line)
    except msgspec.ValidationError as error:
        raise Unrestorable("a version before 1.0 wrote it, or an event has no id") from error
    except msgspec.DecodeError as error:
        raise Unrestorable("an event is damaged") from error
    if not EVENT_ID.fullmatch(event.id):
        raise Unrestorable("an event has no valid id")
    return event.id


def _file(path: str, line: bytes, mtime_ms: int) -> PlannedFile:
    pieces: Iterable[bytes] = (line,)
    return PlannedFile(path=path, content=lambda: iter(pieces), mtime_ms=mtime_ms)


RECIPE = OpenHandsRecipe()
