"""Builds a session's record from the folds of its streams and from the sessions whose history it may have copied."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Set
from typing import NamedTuple

from msgspec.structs import replace

from sessiond.ingest.context import PROMPTS, IngestContext
from sessiond.ingest.inner_paths import inner_path, outer_path
from sessiond.ingest.stream_names import as_text
from sessiond.session import Fold, Folds, is_positional, session_id, summarize
from sessiond.sources.base import Source
from sessiond.spool import Spool
from sessiond.spool.rows import BuiltRecord, FileState, SessionState, StreamState

MAIN = "main"  # the name of a transcript with one stream (see Unit in sources/base.py)


class _Member(NamedTuple):
    """A session with its streams and its relatives: the sessions that may share history with it."""

    state: SessionState
    streams: list[StreamState]
    relatives: list[SessionState]

    @property
    def threads(self) -> list[Fold]:
        """The folds of the main thread."""
        return [stream.fold for stream in self.streams if stream.thread]


class _Compared(NamedTuple):
    """What a relative is compared by: it may be the original, or a copy."""

    age: tuple[int, bool, str]
    named: uuid.UUID | None
    """The parent that its records name."""
    keys: list[int]
    """The keys of its messages."""


class RecordBuilder:
    """Builds and stores the records of one tool's sessions. Runs inside the transaction that stores what was read."""

    def __init__(self, context: IngestContext, source: Source, live: Set[tuple[str, str]]) -> None:
        """`live` has the tool and native id of the sessions whose process runs (see Turn)."""
        self._spool = context.spool
        self._restored = context.restored
        self._masking = context.masking
        self._rules = context.rules()
        self._scope = context.scope(source)
        self._live = live
        # A message that two sessions have shows a copy, unless the tool numbers the messages of each session.
        self._detects_copies = not source.own_keys
        # Of the session that is refreshed and its relatives, each of which is compared with all: by row.
        self._streams: dict[int, list[StreamState]] = {}
        self._relatives: dict[int, _Compared] = {}
        self._families: dict[int, list[SessionState]] = {}
        """The sessions with a first answer. They are relatives of each other."""

    def refresh(
        self,
        session: int,
        *,
        touched: bool,
        stream: StreamState | None = None,
        added: Set[int] | None = None,
    ) -> bool:
        """Store the record of a session if it changed; return whether it did.

        `touched`: its streams changed, which makes a new revision even if the record is the same. `stream` is one of
        its streams that is in memory, as stored; it was read, so the session is no longer marked as gone. `added`: the
        keys of all messages that it got since its record was built; None: not known.

        The records of those relatives are rebuilt too that may have changed: see `_affected`.
        """
        self._streams.clear()
        self._relatives.clear()
        self._families.clear()
        state = self._spool.catalog.session_by_row(session)
        if stream is not None and state.gone_ms is not None:
            touched |= self._spool.catalog.set_gone(session, None)
        member = self._load(state, stream)
        built = self._store(member, live=(state.tool, state.native_id) in self._live, touched=touched)
        if built is None:
            return False
        self._families.clear()  # the session may be in one only now
        for other in self._affected(member, built, added):
            if other.record is not None and other.id != state.id:
                self._store(self._load(other), live=other.record.ended_at is None, touched=False)
        return True

    def _affected(self, member: _Member, built: BuiltRecord, added: Set[int] | None) -> Iterator[SessionState]:
        """Iterate over the relatives whose records may have to change because the record of this session changed.

        A copy's record depends on its original in two ways: the original may be its parent, and messages that both have
        don't count. So a copy that is captured after its original changes no other record. A new message changes only
        copies that have it too. And an original that is captured after its copies changes none that has an older
        original with the same messages. Otherwise a line in one of hundreds of forks would rebuild the records of all.
        """
        if not member.relatives:
            return
        before = member.state
        is_new = before.record is None or before.opening is None
        moved = not is_new and (
            (before.opening, before.parent) != (built.opening, built.parent)
            or (before.record is not None and before.record.started_at != built.record.started_at)
        )
        if moved or (added is None and not is_new):
            yield from member.relatives
            return
        own = self._compared(before)
        by_id = {relative.uuid: relative for relative in member.relatives}
        for relative in member.relatives:
            other = self._compared(relative)
            is_original = other.named == before.uuid or (own.age < other.age and own.named != relative.uuid)
            parent = by_id.get(relative.parent) if is_new and relative.parent is not None else None
            if not is_original or (parent is not None and self._adds_nothing(own, relative, parent)):
                continue
            if is_new or added is None or not added.isdisjoint(other.keys):
                yield relative

    def _adds_nothing(self, own: _Compared, copy: SessionState, parent: SessionState) -> bool:
        """Return whether a new original changes no record of a copy, which was built with `parent`, an older original.

        Then the parent stays, and all messages that the new one shares with the copy are the parent's too.
        """
        other, older = self._compared(copy), self._compared(parent)
        is_original = other.named == parent.uuid or (older.age < other.age and older.named != copy.uuid)
        keeps_parent = other.named is not None or older.age < own.age
        return is_original and keeps_parent and set(own.keys).intersection(other.keys).issubset(older.keys)

    def _store(self, member: _Member, *, live: bool, touched: bool) -> BuiltRecord | None:
        """Store the record of a session; return it if it changed."""
        state, (member, prompts_only) = member.state, _without_prompts(member, self._rules.now_ms)
        if prompts_only and state.record is not None and not state.prompts_only:
            return None  # the transcript was emptied: its record has more than the prompts
        threads = _with_times(member, self._rules.now_ms)
        others = [stream.fold for stream in member.streams if not stream.thread and stream.fold.last_ms is not None]
        parent, ancestors = self._ancestors(member)
        mark = self._restored.find(state.uuid)
        origin = mark or (self._restored.find(parent) if parent is not None else None)
        elsewhere = origin.messages if origin is not None else frozenset[int]()
        record = summarize(
            state.uuid,
            state.tool,
            Folds(threads=threads, others=others, ancestors=ancestors, elsewhere=elsewhere, live=live),
            rules=self._rules,
            source_path=_source_path(self._spool, member.streams),
        )
        if record is None:
            return None
        if mark is not None:
            record = replace(record, working_directory=mark.directory)  # the transcript names that of the other machine
        first_answers = (_signed(fold.first_answer_key) for fold in threads if fold.first_answer_key is not None)
        title = next((fold.title for fold in reversed(threads) if fold.title), None)
        title = title or next((fold.prompt for fold in threads if fold.prompt), None)
        built = BuiltRecord(
            record=self._masking.record(record),
            parent=parent,
            title=self._masking.text(title),
            opening=next(first_answers, None) if self._detects_copies else None,
            active_ms=max(fold.last_ms for fold in (*threads, *others) if fold.last_ms is not None),
            prompts_only=prompts_only,
        )
        return built if self._spool.catalog.put_record(state, built, self._rules.now_ms, touched=touched) else None

    def _ancestors(self, member: _Member) -> tuple[uuid.UUID | None, list[list[int]]]:
        """Return the parent of a session, and the message keys of each session whose history it may have copied.

        Those are the parent that it names, and older relatives. A relative that names this session is a copy of it.
        """
        state = member.state
        relatives = {
            relative.uuid: self._compared(relative) for relative in (member.relatives if self._detects_copies else ())
        }
        named = _named_parent(state.tool, state.uuid, member.threads, self._scope)
        age = _age(state.uuid, member.threads)
        ancestors = [
            identity
            for identity, relative in relatives.items()
            if identity == named or (relative.age < age and relative.named != state.uuid)
        ]
        # The parent so far is kept if it is not in the spool. One that is there is among the ancestors, unless it has
        # turned out to be the copy.
        absent = state.parent if all(relative.uuid != state.parent for relative in member.relatives) else None
        oldest = min(ancestors, key=lambda identity: relatives[identity].age, default=absent)
        return named or oldest, [relatives[identity].keys for identity in ancestors]

    def _compared(self, relative: SessionState) -> _Compared:
        """Return what a relative is compared by."""
        found = self._relatives.get(relative.id)
        if found is None:
            folds = [stream.fold for stream in self._streams_of(relative.id) if stream.thread]
            found = self._relatives[relative.id] = _Compared(
                age=_age(relative.uuid, folds),
                named=_named_parent(relative.tool, relative.uuid, folds, self._scope),
                keys=[key for fold in folds if not is_positional(fold.messages) for key in fold.messages],
            )
        return found

    def _streams_of(self, session: int, current: StreamState | None = None) -> list[StreamState]:
        """Return the streams of a session. Hundreds of forks of one session are read once, not once for each other."""
        found = self._streams.get(session)
        if found is None:
            found = self._streams[session] = self._spool.catalog.streams(session, current)
        return found

    def _family_of(self, first_answer_key: int) -> list[SessionState]:
        """Return the sessions with this first answer, each as it was when it was asked for first."""
        found = self._families.get(first_answer_key)
        if found is None:
            found = self._families[first_answer_key] = self._spool.catalog.relatives(first_answer_key)
        return found

    def _load(self, state: SessionState, current: StreamState | None = None) -> _Member:
        """Load a session's streams and relatives: those with the same first answer, its parent, and its children."""
        catalog = self._spool.catalog
        streams = self._streams_of(state.id, current)
        found = {relative.id: relative for relative in catalog.children(state.uuid)}
        for stream in streams:
            if stream.thread and stream.fold.first_answer_key is not None:
                key = _signed(stream.fold.first_answer_key)
                found |= {relative.id: relative for relative in self._family_of(key) if relative.id != state.id}
        # The first time, only the records name the parent: it has to be known before the copied messages are counted.
        threads = [stream.fold for stream in streams if stream.thread]
        for identity in {state.parent, _named_parent(state.tool, state.uuid, threads, self._scope)}:
            parent = None if identity is None else catalog.session(identity)
            if parent is not None:
                found[parent.id] = parent
        return _Member(state, streams, list(found.values()))


def _without_prompts(member: _Member, now_ms: int) -> tuple[_Member, bool]:
    """Return the session to build the record from, and whether the record is built from prompts alone.

    If there is a transcript, the stream of prompts is left out. Otherwise it is the main thread, and the session has no
    relatives: prompts alone do not show a copy.
    """
    rest = [stream for stream in member.streams if stream.name != PROMPTS]
    prompts = [replace(stream, thread=True) for stream in member.streams if stream.name == PROMPTS]
    whole = member._replace(streams=rest)
    if not any(len(stream.fold.messages) for stream in prompts):
        return whole, False
    if any(stream.thread for stream in rest) and any(fold.started_ms for fold in _with_times(whole, now_ms)):
        return whole, False
    return _Member(member.state, [*prompts, *rest], []), True


def _with_times(member: _Member, now_ms: int) -> list[Fold]:
    """Return the folds of the main thread. If no record has a plausible time, the first one has those of the files.

    Settings and other records that are no conversation don't make a session: they are left without a time.
    """
    threads = member.threads
    if any(fold.started_ms is not None for fold in threads):
        return threads
    if not any(len(fold.messages) or fold.damaged or fold.oversized for fold in threads):
        return threads
    written = min(max(stream.rank for stream in member.streams if stream.thread), now_ms)
    before = member.state.record
    started = min(written, int(before.started_at.timestamp() * 1000)) if before is not None else written
    return [replace(threads[0], started_ms=started, last_ms=written), *threads[1:]]


def _named_parent(tool: str, session: uuid.UUID, threads: list[Fold], scope: str) -> uuid.UUID | None:
    """Return the parent that the records of a session name; None if they name none, or the session itself."""
    named = next((fold.parent for fold in threads if fold.parent), None)
    parent = None if named is None else session_id(tool, named, scope)
    return parent if parent != session else None


def _age(session: uuid.UUID, threads: list[Fold]) -> tuple[int, bool, str]:
    """Return a sort key for relatives: the original is the one that began first; of those, the one not copied."""
    started = min((fold.started_ms for fold in threads if fold.started_ms is not None), default=1 << 62)
    return started, any(fold.copied for fold in threads), str(session)


def _source_path(spool: Spool, streams: list[StreamState]) -> str | None:
    """Return the path of the main thread's file: one that exists, else the one that vanished last.

    Settings and indexes that a tool keeps beside a transcript are threads too; they are used if there is no main one.
    """
    files: list[tuple[bool, FileState]] = []
    for stream in streams:
        if stream.thread:
            files += ((stream.name == MAIN, file) for file in spool.catalog.files(stream.id))
    if not files:
        return None
    _, named = max(files, key=lambda it: (it[0], it[1].gone_ms is None, it[1].gone_ms or 0, it[1].path))
    path, native_id = outer_path(named.path)
    return as_text(inner_path(path, native_id))


def _signed(key: int) -> int:
    """Return an unsigned 64-bit key as SQLite stores it, as a signed integer."""
    return key - (1 << 64) if key >= 1 << 63 else key
