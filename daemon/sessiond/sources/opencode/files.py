"""The trees of JSON files that OpenCode kept before it had a database (formats.md 2.8 Layout history)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from sessiond.sources.base import Portrait, Unit
from sessiond.sources.objects import encode
from sessiond.sources.opencode.records import HEAD, titled
from sessiond.sources.records import compact, parse

# Before 1.2 `storage/session/<project>/<id>.json`; before that `project/<directory>/storage/session/info/<id>.json`.
SESSION_FILE = re.compile(r"(session/)[\w-]+/(ses_\w+)\.json|([^/]+/storage/session/)info/(ses_\w+)\.json", re.ASCII)
MESSAGE_FILE = re.compile(r"(?:.*/)?message/ses_\w+/(msg_\w+)\.json", re.ASCII)
PART_FILE = re.compile(r"(?:.*/)?part/(?:ses_\w+/)?(msg_\w+)/\w+\.json", re.ASCII)


class _Time(msgspec.Struct, frozen=True, gc=False):
    created: float | None = None


DOCUMENT = msgspec.json.Decoder(dict[str, msgspec.Raw])
TITLE = msgspec.json.Decoder(str | None)
TIME = msgspec.json.Decoder(_Time)


def _carried(content: bytes) -> bytes:
    """Put a document on a line. A damaged one is carried as it is: it must not stop its session (rule 9)."""
    try:
        return compact(content)
    except ValueError:
        return content.replace(b"\n", b" ")


def directories(files: Mapping[str, bytes], unit: Unit) -> Iterable[str]:
    """Name the directories of a session's messages and, once these are read, of their parts."""
    for name in files:
        if found := SESSION_FILE.fullmatch(name):
            yield f"{found[3] or ''}message/{unit.native_id}"
        elif found := MESSAGE_FILE.fullmatch(name):
            base, _, _ = name.rpartition("message/")
            yield f"{base}part/{unit.native_id}/{found[1]}" if base else f"part/{found[1]}"


def lay_out(files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
    """Lay a session's files out as its rows are: what it is, its messages with their parts, its title."""
    info = parse(DOCUMENT, next(iter(files.values())))
    parts: dict[str, list[bytes]] = {}
    for name in sorted(files):
        if found := PART_FILE.fullmatch(name):
            parts.setdefault(found[1], []).append(_carried(files[name]))
    head: dict[str, Any] = {name: info[name] for name in HEAD if name in info}
    head["time"] = {"created": TIME.decode(info["time"]).created} if "time" in info else {}
    records = [compact(encode(head))]
    for name in sorted(files):
        if found := MESSAGE_FILE.fullmatch(name):
            records += [_carried(files[name]), *parts.get(found[1], [])]
    told = titled(TITLE.decode(info["title"]) if "title" in info else None)
    yield Portrait(native_id=unit.native_id or "", stream=unit.stream, records=records, told=told)
