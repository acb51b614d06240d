"""Captures a tool's history of prompts, which survives when the tool deletes its sessions.

Lines of sessions that have a transcript are ignored. The lines of any other session become a stream. Until the session
has a transcript, its record is made from that stream. Lines are only appended to the stream, and each line once, even
if the tool trims the oldest lines of its file or a second home has a copy of the file.

A history may also be a document that the tool rewrites with each prompt. The document is projected to lines
(history_document.py), and offsets are positions in these lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cached_property
from itertools import islice
from uuid import UUID

import msgspec

from sessiond.ingest.context import PROMPTS, FileSnapshot, Outcome
from sessiond.ingest.files import with_mtime
from sessiond.ingest.inner_paths import inner_path
from sessiond.ingest.presence import ask_again, note_back, note_gone
from sessiond.ingest.prompt_lines import (
    Prompt,
    PromptLines,
    Transcripts,
    find_transcripts,
    read_prompts,
    session_records,
)
from sessiond.ingest.stream_capture import StreamCapture
from sessiond.ingest.stream_lookup import open_stream
from sessiond.ingest.stream_names import as_text
from sessiond.ingest.units import HistoryUnit
from sessiond.reader import Extent
from sessiond.session import session_id
from sessiond.spool.health import add_unnamed

PATIENCE_MS = 10_000
"""How long after its first prompt a session may be without a transcript: some tools write the history first."""
GROUP = 32
"""Sessions of a history that share a commit."""
MOST_BYTES = 16 << 20
"""Bytes of prompts that are read again at once, and kept in memory."""
MOST_SESSIONS = 500
"""Sessions whose prompts are read again at once, so that a long history is not read once for each of them."""

Groups = dict[str, list[Prompt]]
"""Lines of a history by the native id of their session."""


def capture_history(snapshot: FileSnapshot, unit: HistoryUnit) -> Outcome:
    """Capture the lines that were added to a history. A history that was rewritten is read from its start.

    If the turn names sessions, only their lines are read, and those of other sessions that wait for the same file.
    """
    context, known = snapshot.context, snapshot.known
    if known is not None and known.gone_ms is not None:
        note_back(context, known)
    context.spool.end_group()  # how many sessions there are shows only when they are read; they share commits of GROUP
    if snapshot.turn.only:
        return _Capture(snapshot, unit).read_again(_waiting_sessions(snapshot))
    if snapshot.unchanged or snapshot.stat.st_size == 0:
        return Outcome()  # an emptied file is the first half of a rewrite; the other half is a change of its own
    return _Capture(snapshot, unit).read_on()


def _waiting_sessions(snapshot: FileSnapshot) -> list[str]:
    """Return the requested sessions, and others that wait for the same file; none if all were read meanwhile."""
    context, location = snapshot.context, snapshot.location
    tool, scope = location.source.tool, context.scope(location.source)
    asked = []
    with context.spool.reading():
        for native_id in snapshot.turn.only:
            stream = context.spool.catalog.find_stream(session_id(tool, native_id, scope), PROMPTS)
            asked += [native_id] if stream is not None and not stream.caught_up else []
        others = context.spool.catalog.behind_inside(location.path, MOST_SESSIONS) if asked else []
    return [*asked, *(native_id for native_id in others if native_id not in snapshot.turn.only)]


class _Capture:
    """One read of a history."""

    def __init__(self, snapshot: FileSnapshot, unit: HistoryUnit) -> None:
        self._snapshot, self._unit = snapshot, unit
        self._context, self._source = snapshot.context, snapshot.location.source
        self._outcome = Outcome()

    def read_on(self) -> Outcome:
        """Read from the checkpoint on, or from the start if the file was rewritten, and move the checkpoint.

        The sessions are committed before it (rule 1). A kill in between repeats them, which adds no line twice.
        """
        snapshot, lines = self._snapshot, self._unit.lines
        known = None if snapshot.known is None else snapshot.known.checkpoint
        grew = known is not None and lines.grew(known, snapshot.stat)
        start = end = known.offset if known is not None and grew else 0
        groups, more, limit, unnamed = Groups(), False, snapshot.turn.slice, 0
        for prompt in read_prompts(self._source, lines, start):
            # Not within a line: the checkpoint would move past the rest of it.
            more = limit is not None and prompt.end - start > limit and start < end < prompt.end
            if more:
                break
            end = prompt.end
            unnamed += prompt.typed and prompt.native_id is None
            if prompt.native_id is not None:
                groups.setdefault(prompt.native_id, []).append(prompt)
        chosen = {native_id: prompts for native_id, prompts in groups.items() if self._admits(native_id, prompts)}
        self._store(chosen)
        self._count(read=end - start, more=more)
        if self._outcome.retry:
            return msgspec.structs.replace(self._outcome, more=False)  # the checkpoint stays, so all is read again
        with self._context.spool.transaction():
            size = ~snapshot.stat.st_size if more else snapshot.stat.st_size
            snapshot.save(None, snapshot.checkpoint(end, lines.probe(end), size=size))
            add_unnamed(self._context.spool, as_text(snapshot.location.path), unnamed, restart=start == 0)
        return self._outcome

    def read_again(self, native_ids: Iterable[str], most_bytes: int = MOST_BYTES) -> Outcome:
        """Read the prompts of sessions whose bytes did not fit into the outbox, or which the endpoint lacks.

        After about `most_bytes`, only those of sessions that were found by then are read.
        """
        wanted, groups, size = set(native_ids), Groups(), 0
        if not wanted:
            return self._outcome
        for prompt in read_prompts(self._source, self._unit.lines):
            if prompt.native_id in wanted and (prompt.native_id in groups or size < most_bytes):
                groups.setdefault(prompt.native_id, []).append(prompt)
                size += len(prompt.record)
        asked = self._snapshot.turn.only & wanted
        self._store({native_id: groups.get(native_id, []) for native_id in (groups.keys() | asked)}, whole=True)
        return self._outcome

    def _admits(self, native_id: str, prompts: list[Prompt]) -> bool:
        """Return whether the lines of a session are captured: it has no transcript, and its project is not excluded."""
        context = self._context
        identity = session_id(self._source.tool, native_id, context.scope(self._source))
        with context.spool.reading():
            known = context.spool.catalog.thread_names(identity)
            if context.spool.forgotten.has(str(identity)):
                return False  # the user erased it; its tool still has the prompts
        if any(known.values()):
            return False  # it has a transcript
        if context.exclusion.excludes_any(self._directories(prompts)):
            return False
        return PROMPTS in known or self._is_lost(identity, prompts)

    def _is_lost(self, identity: UUID, prompts: list[Prompt]) -> bool:
        """Return whether a session that is not in the spool is known from its prompts alone."""
        context, times = self._context, [prompt.time_ms for prompt in prompts]
        if not any(prompt.typed for prompt in prompts) or self._transcripts.has(identity, prompts[0].native_id or ""):
            return False
        if not self._directories(prompts) and context.exclusion.in_use:
            return False  # this history names no project, and the session's may be an excluded one
        if context.oldest_ms is not None and max(times) < context.oldest_ms:
            return False
        early = 0 <= context.now_ms() - min(times) < PATIENCE_MS
        if early:
            self._count(retry=True)
        return not early

    def _directories(self, prompts: list[Prompt]) -> set[str]:
        found = {prompt.directory for prompt in prompts} | {self._unit.directory}
        return {directory for directory in found if directory}

    @cached_property
    def _transcripts(self) -> Transcripts:
        context = self._context
        roots = (*context.roots, *context.dormant)
        return find_transcripts(roots, self._source.tool, context.scope(self._source))

    def _store(self, groups: Groups, *, whole: bool = False) -> None:
        """Capture the lines of sessions. `whole`: they are all that the history has of them."""
        behind, left = Groups(), iter(groups.items())
        while several := list(islice(left, GROUP)):
            with self._context.spool.group():
                for native_id, prompts in several:
                    if not self._store_session(native_id, prompts, whole=whole):
                        behind[native_id] = prompts
        if behind:  # captured lines of these sessions are not queued yet, so they are read together with the new ones
            self.read_again(behind, sys.maxsize)

    def _store_session(self, native_id: str, prompts: list[Prompt], *, whole: bool) -> bool:
        """Capture the new lines of a session; return False if all of its lines are needed for that."""
        context, unit = self._context, self._unit
        records = session_records(self._snapshot.location, prompts)
        stream = open_stream(context, unit.stream(native_id, PromptLines((), context.digest)))
        if not (whole or stream.caught_up):
            return False
        captured = context.spool.catalog.extents(stream.id)
        content = PromptLines(records, context.digest, captured)
        if content.has_news or not stream.caught_up:
            source = unit.stream(native_id, content)
            before = context.spool.catalog.file(source.path)
            if before is not None and before.gone_ms is not None:
                ask_again(context, stream)
            newest = max((prompt.time_ms for prompt in prompts), default=0)
            stat = with_mtime(self._snapshot.stat, min(newest, self._snapshot.mtime_ms))
            snapshot = msgspec.structs.replace(self._snapshot, stat=stat)
            outcome = StreamCapture(snapshot, source, stream).run(only_grew=True)
            # Its side files may still be there, and can be captured now.
            self._count(changed=outcome.changed, sessions=frozenset([native_id]))
            if whole:
                self._note_trimmed(native_id, content, captured)
        return True

    def _note_trimmed(self, native_id: str, content: PromptLines, captured: list[Extent]) -> None:
        """Note that the tool removed lines that are still needed: nothing waits for them any more."""
        context, path = self._context, self._snapshot.location.path
        file = context.spool.catalog.file(inner_path(path, native_id, PROMPTS))
        if not captured or content.unchanged_prefix(captured) == captured[-1].end:
            return
        if file is not None and file.stream and not context.spool.catalog.stream(file.stream).caught_up:
            note_gone(context, file, self._snapshot.turn.live)

    def _count(
        self,
        *,
        read: int = 0,
        changed: bool = False,
        more: bool = False,
        retry: bool = False,
        sessions: frozenset[str] = frozenset(),
    ) -> None:
        so_far = self._outcome
        self._outcome = Outcome(
            read=so_far.read + read,
            changed=so_far.changed or changed,
            more=so_far.more or more,
            retry=so_far.retry or retry,
            sessions=so_far.sessions | sessions,
        )
