"""Amp, as long as it kept its threads on the machine: docs/formats/amp.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec

from sessiond.session import Entry, parse_time
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Unit, UserDirs, Watch
from sessiond.sources.objects import encode, without_nulls
from sessiond.sources.records import ABSENT, SILENT_BLOCKS, UUID, compact, message_role, parse, unknown_type
from sessiond.sources.user_dirs import path_from_uri

KNOWN = frozenset(["thread", "usage", "user", "assistant", "info", "system"])


class _Meta(msgspec.Struct, gc=False):
    sent_at: float | str | None = msgspec.field(name="sentAt", default=None)


class _Usage(msgspec.Struct, gc=False):
    model: str | None = None
    timestamp: str | float | None = None


class _Record(msgspec.Struct, gc=False):
    """A message, or projected facts of the thread."""

    type: str | None = None
    role: str | None = None
    content: msgspec.Raw = ABSENT
    meta: _Meta | None = None
    usage: _Usage | None = None
    created: float | str | None = None
    title: str | None = None
    cwd: str | None = None
    branch: str | None = None
    version: str | None = None
    timestamp: str | float | None = None
    model: str | None = None


class _Repository(msgspec.Struct, omit_defaults=True):
    ref: str | None = None
    sha: str | None = None
    url: str | None = None


class _Tree(msgspec.Struct):
    uri: str | None = None
    repository: _Repository | None = None


class _Platform(msgspec.Struct, rename="camel"):
    client_version: str | None = None


class _Initial(msgspec.Struct):
    trees: list[_Tree] = []
    platform: _Platform | None = None


class _Env(msgspec.Struct):
    initial: _Initial | None = None


class _UsageLedger(msgspec.Struct):
    events: list[dict[str, Any]] = []


class _Document(msgspec.Struct, rename="camel"):
    """A thread."""

    messages: list[msgspec.Raw]
    created: float | str | None = None
    title: str | None = None
    env: _Env | None = None
    v: int | None = None
    agent_mode: str | None = None
    forked_from_thread_id: Any = msgspec.field(name="forkedFromThreadID", default=None)
    relationships: Any = None
    activated_skills: Any = None
    usage_ledger: _UsageLedger | None = None


RECORD, DOCUMENT = msgspec.json.Decoder(_Record), msgspec.json.Decoder(_Document)


class Amp(BaseSource):
    """Threads of Amp. The server keeps them; the files on the machine are old, or stubs."""

    tool: ClassVar[str] = "amp"
    versions: ClassVar[tuple[str, ...]] = ("threads of October 2025",)
    gaps: ClassVar[tuple[str, ...]] = (
        "since spring 2026 only the server has the threads; no parent, because the work of subagents is in no thread",
        "the prompts in history.jsonl name no thread and are not read",
        "a prompt that was not sent yet, and the times of each call (meta.traces)",
    )
    projection_version: ClassVar[int] = 2
    files: ClassVar[re.Pattern[str]] = re.compile(rf"(?P<id>T-{UUID})\.json", re.ASCII)
    kind: ClassVar[Kind] = Kind.DOCUMENT

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the threads in the XDG data directory."""
        for share in dirs.with_override("XDG_DATA_HOME", f"{dirs.home}/.local/share"):
            yield Root(path=f"{share}/amp/threads", watch=Watch.FLAT, depth=0)

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        """Project the messages, and the thread's own fields and times as another stream.

        A stub has no messages. Its projections are empty, and the engine keeps a stream whose projection is empty as
        it was: a stub does not replace a complete thread that was uploaded before.
        """
        for content in files.values():
            document, native_id = parse(DOCUMENT, content), unit.native_id or ""
            facts = [_thread_record(document), *_usage_records(document)] if document.messages else []
            yield Projection(native_id=native_id, records=map(compact, document.messages))
            yield Projection(native_id=native_id, stream="thread", records=facts)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a message. Its id is a number that is unique in one thread only, so it is not used as a key."""
        item = parse(RECORD, record)
        times = (item.created, item.timestamp, item.meta and item.meta.sent_at, item.usage and item.usage.timestamp)
        return Entry(
            time_ms=parse_time(next((time for time in times if time), None)),
            role=message_role(item.role, item.content, silent=SILENT_BLOCKS),
            model=item.model or (item.usage.model if item.usage else None),
            version=item.version,
            cwd=item.cwd,
            branch=item.branch,
            title=item.title,
            unknown=unknown_type(item.role or item.type, KNOWN),
        )


def _thread_record(document: _Document) -> bytes:
    initial = (document.env.initial if document.env else None) or _Initial()
    tree = initial.trees[0] if initial.trees else _Tree()
    thread = {
        "type": "thread",
        "created": document.created,
        "title": document.title,
        "cwd": path_from_uri(tree.uri),
        "branch": (tree.repository.ref or "").removeprefix("refs/heads/") or None if tree.repository else None,
        "version": initial.platform.client_version if initial.platform else None,
        "v": document.v,
        "agentMode": document.agent_mode,
        "forkedFromThreadID": document.forked_from_thread_id,
        "relationships": document.relationships,
        "activatedSkills": document.activated_skills,
        "repository": tree.repository,
    }
    return encode(without_nulls(thread))


def _usage_records(document: _Document) -> Iterator[bytes]:
    for event in document.usage_ledger.events if document.usage_ledger else ():
        yield encode({**event, "type": "usage"})


SOURCES = (Amp(),)
