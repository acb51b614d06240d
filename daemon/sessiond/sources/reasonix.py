"""Reasonix, a coding agent for DeepSeek and other models: docs/formats/reasonix.md."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from typing import Any, ClassVar

import msgspec

from sessiond import zstd
from sessiond.errors import ReadError
from sessiond.session import Entry, Item, Role, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Unit, UserDirs
from sessiond.sources.messages import message_items
from sessiond.sources.objects import OBJECT, as_text, encode, get_in, without_nulls
from sessiond.sources.records import ROLES, message_role, parse, unknown_type
from sessiond.sources.side_files import SideFiles

BASE = r"(?:projects/[^/]+/)?"
FRAMES = re.compile(rf"({BASE}sessions-v4/)(?P<id>[0-9a-f]{{32}})/events\.frames", re.ASCII)
LINES = re.compile(rf"({BASE}(?:sessions|archive|subagents)/(?:[^/]+/)?)(?P<id>[^/]+?)(?<!\.events)\.jsonl")
OLDER = rf"{BASE}(?:sessions|archive)/(?:[^/]+/)?"
BESIDE = r"events\.jsonl|(?:meta|plan|pending)\.json|jsonl\.meta"
HEADER = Struct(">4sII")
"""The head of a frame: a mark, the bytes of the Zstandard frame that follows, and those of the JSON in it."""
MARK = b"RX4F"
FRAME_LIMIT = 64 << 20
"""Bytes of the JSON of a frame. Larger payloads are in files of their own."""
TOTAL_LIMIT = 512 << 20
"""Bytes of the JSON of all frames, which are in memory at once. A small file can ask for many times as much."""
OBJECTS = ".content-v1/objects"
# What the program writes besides messages. None of it holds the text of a message that no message has.
KINDS = (
    "message/complete message/retract history/replace session/config session/title session/state turn/start turn/end"
    " turn/prompt assistant/attempt tool/call tool/start tool/progress tool/result goal/state"
)
KNOWN = frozenset(KINDS.split())
KNOWN_ROLES = frozenset([*ROLES, "system", "tool"])
WORKSPACE = re.compile(r'^Current workspace: "([^"\n]+)"', re.MULTILINE)
OWN = re.compile(rb'"\s*<session-context ')


class Reasonix(BaseSource):
    """Sessions of Reasonix: a log of compressed events since 1.x, and JSON lines of messages before."""

    tool: ClassVar[str] = "reasonix"
    variables: ClassVar[tuple[str, ...]] = ("REASONIX_HOME", "REASONIX_STATE_HOME")
    versions: ClassVar[tuple[str, ...]] = ("1.38.11 (log of events)", "May 2026 (lines)")
    local_ids: ClassVar[bool] = True  # older sessions are named after their directory, and some "default"
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch or parent is stored in a log of events; tokens are in stats/, which names no session",
        "messages that a rewind or a compaction takes back are counted",
        "caches and indexes (manifest.json, storage.identity.json, *-index.json, .query-cache/, .recovery-cache/)",
        "settings (config.toml*) and logs/; large texts (.content-v1/) are in the records that need them",
    )
    session_like: ClassVar[str] = r".+\.(?:jsonl|frames)(?:[. (][^/]*)?"
    other_files: ClassVar[tuple[str, ...]] = (r"stats/.+",)
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(rf"{OLDER}(?P<id>[^/]+?)\.(?P<name>{BESIDE})", "events, notes and plans of older versions"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return REASONIX_HOME, REASONIX_STATE_HOME and ~/.reasonix."""
        skipped = frozenset(["stats", "logs", "cache", ".content-v1", ".query-cache", ".recovery-cache"])
        named = [dirs.from_variable(variable) for variable in self.variables]
        for path in dict.fromkeys(filter(None, [*named, f"{dirs.home}/.reasonix"])):
            yield Root(path=path, depth=4, skip=skipped)

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a log of events, or of the lines of an older version with the notes beside them."""
        if found := FRAMES.fullmatch(relative):
            return Unit(kind=Kind.DOCUMENT, native_id=found["id"])
        if found := LINES.fullmatch(relative):
            stem = relative.removesuffix(".jsonl")
            return Unit(native_id=found["id"], timeless=True, beside=(f"{stem}.meta.json", f"{stem}.jsonl.meta"))
        return None

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return what the notes of an older version have: folder, branch, title, model and the time of the start."""
        for content in beside.values():
            notes = parse(OBJECT, content)
            return Entry(
                time_ms=parse_time(as_text(notes.get("created_at"))),
                cwd=as_text(notes.get("workspace")) or as_text(notes.get("workspace_root")),
                branch=as_text(notes.get("branch")),
                title=as_text(notes.get("topic_title")) or as_text(notes.get("summary")),
                model=as_text(notes.get("model")),
            )
        return None

    def more_directories(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[str]:
        """Return the directories of large payloads, which are named after their digest."""
        for name, content in files.items():
            if found := FRAMES.fullmatch(name):
                yield from {_object(found[1], event).rpartition("/")[0] for event in _events(content)} - {""}

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project the events of complete batches, with their payload as JSON."""
        for name, content in files.items():
            if OBJECTS in name:
                continue
            found = FRAMES.fullmatch(name)
            records = []
            for event in _events(content):
                payload = files.get(_object(found[1] if found else "", event)) or _payload(event)
                if payload is not None:
                    event["payload"] = msgspec.Raw(payload.replace(b"\n", b" "))
                records.append(encode(event))
            yield Projection(native_id=unit.native_id or "", records=records)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode an event, or a message of an older version. Text for the model by the program has origin "host"."""
        line = parse(OBJECT, record)
        message: Any = line
        kind, time = as_text(line.get("kind")), line.get("createdAt")
        if kind is not None:
            payload = line.get("payload")
            message = get_in(payload, "message") if kind == "message/complete" else None
            if not isinstance(message, dict):
                model = as_text(get_in(payload, "modelRef"))
                title = as_text(get_in(payload, "title")) if kind == "session/title" else None
                return Entry(time_ms=_time(time), model=model, title=title, unknown=unknown_type(kind, KNOWN))
        name, content = as_text(message.get("role")), message.get("content")
        role = message_role(name, msgspec.Raw(encode(content)), injected=OWN)
        if name == Role.ASSISTANT and message.get("tool_calls"):
            role = Role.ASSISTANT
        by_host = message.get("origin") not in (None, "user") and name == Role.USER
        workspace = WORKSPACE.search(content) if by_host and isinstance(content, str) else None
        return Entry(
            time_ms=_time(message.get("createdAt")) or _time(time),
            role=None if by_host else role,
            key=as_text(message.get("id")),
            cwd=workspace[1] if workspace else None,
            unknown=unknown_type(name, KNOWN_ROLES),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate the items of a message. Calls and results are messages too; their events repeat them."""
        if isinstance(record, dict):
            kind = record.get("kind")
            message = get_in(record.get("payload"), "message") if kind == "message/complete" else record
            if kind in (None, "message/complete"):
                yield from message_items(message, entry)


def _payload(event: dict[str, Any]) -> bytes | None:
    """Return the payload that an event has; one that can't be decoded is left out, since nothing could mask it."""
    encoded = event.pop("payload", None)
    try:
        return base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else None
    except ValueError:
        event["kind"] = "damaged"
        return None


def _time(value: Any) -> int | None:
    return parse_time(value) if isinstance(value, str | int | float) else None


def _object(base: str, event: Mapping[str, Any]) -> str:
    """Return the path of the file with an event's payload; "" if the event has it."""
    digest = get_in(event.get("payloadRef"), "digest")
    return f"{base}{OBJECTS}/{digest[:2]}/{digest[2:4]}/{digest}" if isinstance(digest, str) and base else ""


def _events(content: bytes) -> Iterator[dict[str, Any]]:
    """Iterate the events of complete batches, each with the time and turn of its batch.

    The program takes a batch back that a crash cut short, so nothing of one without its end is read.
    Raises: msgspec.DecodeError for anything but frames, ReadError for too many.
    """
    begin: dict[str, Any] = {}
    batch: list[dict[str, Any]] = []
    for frame in _frames(content):
        match frame.get("recordType"):
            case "batch/begin":
                begin, batch = frame, []
            case "batch/event" if isinstance(frame.get("event"), dict):
                event = dict(frame["event"])
                known = {"kind": event.pop("kind", None), "seq": event.pop("seq", None)}
                known |= {"createdAt": begin.get("createdAt"), "turnId": begin.get("turnId")}
                batch.append(without_nulls(known | event))
            case "batch/end":
                yield from batch
                batch = []
            case "damaged":
                batch.append({"kind": "damaged", "bytes": frame["bytes"]})


def _frames(content: bytes) -> Iterator[dict[str, Any]]:
    """Iterate the JSON objects of the complete frames; where one is damaged, go on at the next mark."""
    offset = total = 0
    if not MARK.startswith(content[: len(MARK)]):
        raise msgspec.DecodeError("no log of events: it does not begin with a frame")
    while len(content) - offset >= HEADER.size:
        mark, packed, size = HEADER.unpack_from(content, offset)
        start = offset + HEADER.size
        if mark == MARK and size <= FRAME_LIMIT:
            if start + packed > len(content):
                return
            total += size
            if total > TOTAL_LIMIT:
                raise ReadError(f"it has more than {TOTAL_LIMIT >> 20} MiB when it is unpacked")
            try:
                yield parse(OBJECT, zstd.decompress(content[start : start + packed], size))
            except (zstd.Undecodable, ValueError):
                mark = b""  # like one without a mark
            else:
                offset = start + packed
                continue
        following = content.find(MARK, offset + len(MARK))
        following = len(content) if following < 0 else following
        yield {"recordType": "damaged", "bytes": following - offset}
        offset = following


SOURCES = (Reasonix(),)
