"""What `show` says of a session beside its conversation: the record, where it is, and how safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from sessiond.cli.output import escape, size
from sessiond.endpoint.origin import Origin
from sessiond.endpoint.wire import RECORDS, StoredSession
from sessiond.restored import RestoredSessions
from sessiond.session import Session
from sessiond.spool import Spool
from sessiond.spool.rows import SessionState, StreamState

LABEL = 11
PROMPTS_ONLY = " (prompts only: from the tool's history; the tool has no more of it)"
SHOWN = 10
"""Side files, and children, that are listed one by one; of more, the number is."""
ENDPOINT = {
    "safe": "has everything",
    "waiting": "does not have everything yet",
    "archived": "does not have everything yet; copying from the built-in archive",
    "parked": "refuses a part of it; see `sessiond queue`",
    "lost": "lacks bytes that are lost; see `sessiond queue`",
    "dropped": "lacks what you dropped from the queue",
}
"""The endpoint line of `show`, by the state of the session."""


class StreamView(msgspec.Struct, frozen=True, kw_only=True):
    """A stream with its bytes captured, queued for the endpoint, acknowledged by it, and lost."""

    name: str
    media_type: str | None
    """That of a side file; None: records."""
    generation: int
    state: str
    captured: int
    queued: int
    acknowledged: int
    lost: int
    files: list[str]


class Child(msgspec.Struct, frozen=True):
    """A session whose parent is the one that is shown: a subagent, or a fork."""

    id: UUID
    title: str | None


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session: the record, further metadata, and its streams."""

    record: Session
    title: str | None
    parent: UUID | None
    children: list[Child] = []
    """The sessions that were started or forked from this one, as far as this machine has them. For a session of another
    machine: those that the endpoint has and that began at most a day after its end."""
    continues: Origin | None = None
    """The session of another machine from which this one was restored."""
    revision: int
    pushed: int
    """The newest revision that the endpoint has acknowledged; 0 if none."""
    parked: str | None
    state: str
    """Its state at the configured endpoint, as `sessiond.spool.safety.State` names it."""
    gone_ms: int | None
    """When the last of its files was found missing, in unix milliseconds."""
    prompts_only: bool
    """Whether only its prompts are known, from the tool's history of prompts."""
    this_machine: bool = True
    """Whether it was captured on this machine; otherwise it comes from the endpoint."""
    streams: list[StreamView]


def facts(view: SessionView) -> Iterator[str]:
    """Iterate the lines that describe the record and its metadata."""
    record = view.record
    model = f", {record.model}" if record.model else ""
    ended = "ongoing" if record.ended_at is None else f"ended {_moment(record.ended_at)}"
    branch = f" ({record.git_branch})" if record.git_branch else ""
    shown = [
        ("session", str(record.id)),
        ("name", view.title),
        ("tool", f"{record.tool} {record.tool_version or ''}".rstrip() + model),
        ("started", f"{_moment(record.started_at)}, {ended}"),
        ("directory", f"{record.working_directory}{branch}" if record.working_directory else None),
        ("messages", f"{record.message_count}{PROMPTS_ONLY if view.prompts_only else ''}"),
        ("machine", f"{record.machine_id or ''}{'' if view.this_machine else ', read from the endpoint'}"),
        ("parent", None if view.parent is None else str(view.parent)),
        ("continues", None if view.continues is None else f"{view.continues.id}, on {view.continues.machine_id}"),
        ("file", _file(view)),
        ("endpoint", _pushed(view)),
    ]
    for label, text in shown:
        if text:
            yield f"{label:<{LABEL}}{escape(text)}"
    for child in view.children[:SHOWN]:
        yield f"{'child':<{LABEL}}{child.id}  {escape(child.title or '')}".rstrip()
    if len(view.children) > SHOWN:
        yield f"{'':<{LABEL}}{len(view.children) - SHOWN} more; `--json` lists them"
    side_files = [stream for stream in view.streams if stream.media_type is not None]
    for stream in view.streams if len(side_files) <= SHOWN else [s for s in view.streams if s.media_type is None]:
        generation = f", generation {stream.generation}" if stream.generation else ""
        done = f"{size(stream.captured)} captured, {size(stream.acknowledged)} acknowledged"
        done += f", {size(stream.lost)} lost" if stream.lost else ""
        yield f"{'stream':<{LABEL}}{escape(stream.name)}: {done}{generation}"
    if len(side_files) > SHOWN:
        captured = sum(stream.captured for stream in side_files)
        yield f"{'side files':<{LABEL}}{len(side_files)}: {size(captured)} captured; `--json` lists them"


def origin_of(session: UUID, restored: RestoredSessions) -> Origin | None:
    """Return the session of another machine that one of this machine continues; None if it was not restored."""
    mark = restored.find(session)
    return None if mark is None else Origin(machine_id=mark.continues.machine_id, id=mark.continues.id)


def local_view(
    spool: Spool, session: SessionState, streams: list[StreamState], url: str, restored: RestoredSessions
) -> SessionView:
    """Return a session of this machine. `url` is the endpoint whose acknowledgements count."""
    assert session.record is not None
    safety = {each.name: each for each in spool.safety.streams(session.id, url)}
    children = sorted(spool.catalog.children(session.uuid), key=lambda each: (each.active_ms, each.uuid))
    return SessionView(
        record=session.record,
        title=session.title,
        parent=session.parent,
        children=[Child(each.uuid, each.title) for each in children],
        continues=origin_of(session.uuid, restored),
        revision=session.revision,
        pushed=session.pushed,
        parked=session.parked,
        state=spool.safety.session(session.id, url).word,
        gone_ms=session.gone_ms,
        prompts_only=session.prompts_only,
        streams=[
            StreamView(
                name=stream.name,
                media_type=stream.media_type,
                generation=stream.generation,
                state=safety[stream.name].state.word,
                captured=stream.folded,
                queued=stream.queued,
                acknowledged=safety[stream.name].safe,
                lost=safety[stream.name].lost,
                files=[file.path for file in spool.catalog.files(stream.id) if file.gone_ms is None],
            )
            for stream in streams
        ],
    )


def remote_view(stored: StoredSession, media_types: Mapping[str, str], children: list[Child]) -> SessionView:
    """Return a session at the endpoint; `media_types` has its streams."""
    from sessiond.cli.remote import make_row, stream_states

    captured = {each.name: each for each in stream_states(stored)}
    held = {each.name: each for each in stored.held}
    return SessionView(
        record=stored.record,
        title=stored.title,
        parent=stored.parent,
        children=children,
        continues=stored.continues,
        revision=stored.revision,
        pushed=stored.revision,
        parked=None,
        state=make_row(stored).state,
        gone_ms=stored.gone_at,
        prompts_only=stored.prompts_only,
        this_machine=False,
        streams=[
            StreamView(
                name=name,
                media_type=None if kind == RECORDS else kind,
                generation=held[name].generation if name in held else 0,
                state=captured[name].state.word if name in captured else "safe",
                captured=captured[name].captured if name in captured else held[name].length if name in held else 0,
                queued=0,
                acknowledged=held[name].length if name in held else 0,
                lost=0,
                files=[],
            )
            for name, kind in media_types.items()
        ],
    )


def _file(view: SessionView) -> str | None:
    if view.gone_ms is None:
        return view.record.source_path
    return f"{view.record.source_path or 'its file'} (gone since {_moment(_utc(view.gone_ms))})"


def _pushed(view: SessionView) -> str:
    if view.parked is not None:
        return f"refuses the record: {view.parked}"
    return ENDPOINT[view.state]


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
