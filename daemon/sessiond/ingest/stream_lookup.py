"""Finds the spool's stream for a stream of a unit, or makes a new one.

The stream may have been read from another file: a session is moved, copied, or stored in several files.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import cast

from sessiond.ingest.content import Lines
from sessiond.ingest.context import IngestContext
from sessiond.ingest.stream_names import stream_name
from sessiond.ingest.units import StreamSource
from sessiond.reader import Checkpoint
from sessiond.session import session_id
from sessiond.spool.rows import UNSTORED, FileState, StreamState


def stream_of_lines(context: IngestContext, source: StreamSource) -> tuple[StreamState | None, Checkpoint | None]:
    """Return the stream for a file that has none yet, and the checkpoint of the file that the stream was read from.

    The stream is None if another existing file already has all bytes of this one.
    """
    content = cast(Lines, source.content)
    stream = open_stream(context, source)
    # If nothing of the stream was read yet, there is nothing to compare this file with.
    fresh = (stream.generation, stream.folded) == (0, 0)
    other = None if fresh else _other_file(context, stream, source.path)
    if other is None or not os.path.exists(other.path) or _continues(content, stream, other):
        return stream, None if other is None else other.checkpoint
    # Two live files claim one stream. A file that only repeats it adds nothing. Any other becomes a stream of its own:
    # in one stream, each would look like a rewrite of the other and start a generation each time.
    if content.unchanged_prefix(context.spool.catalog.extents(stream.id)) == content.size:
        return None, None
    return open_stream(context, source, _suffix_of(source.path)), None


def stream_of_projection(context: IngestContext, source: StreamSource) -> StreamState | None:
    """Return the stream of a projection; None if another existing file has all of it.

    After a migration, a copy to another workspace, or with a database beside old files, a session is in several files.
    A file that only repeats another adds nothing. A file that continues another continues its stream. Any other becomes
    a stream of its own, so that both are kept.
    """
    path, content = source.path, source.content
    stream = open_stream(context, source)
    others = [
        file
        for file in context.spool.catalog.files(stream.id)
        if file.path != path and file.gone_ms is None and not _is_outdated(context, file)
    ]
    if not any(os.path.exists(file.path.partition("::")[0]) for file in others):
        return stream
    kept = content.unchanged_prefix(context.spool.catalog.extents(stream.id))
    if kept == stream.folded:
        return stream
    if kept == content.size:
        return None
    return open_stream(context, source, _suffix_of(path))


def open_stream(context: IngestContext, source: StreamSource, suffix: str = "") -> StreamState:
    """Return the spool's stream for one of a unit, whose native id is known; `suffix` is added to its name.

    A new one is not stored before its first bytes are: in a commit of its own it would cost as much as a small file.
    """
    tool, catalog = source.location.source, context.spool.catalog
    name = stream_name(source.name + suffix)
    identity = session_id(tool.tool, source.native_id or "", context.scope(tool))
    with context.spool.reading():
        stream = catalog.find_stream(identity, name)
    if stream is None:
        stream = StreamState(id=UNSTORED, session=UNSTORED, name=name, thread=source.thread)
        stream.media_type = source.media_type
    elif (stream.media_type is None) != (source.media_type is None):
        # A side file must never continue a transcript of the same name, nor replace it.
        return open_stream(context, source, f"{suffix}@file")
    if stream.skipped is None and tool.tool in context.records_only:
        stream.skipped = stream.queued
    return stream


def _suffix_of(path: str) -> str:
    """Return a suffix that makes the name of a file's stream differ from that of another stream of the session."""
    return f"@{blake2b(os.fsencode(path), digest_size=4).hexdigest()}"


def _other_file(context: IngestContext, stream: StreamState, path: str) -> FileState | None:
    """Return another file that the stream was read from: one that exists, else the one that vanished last."""
    files = [file for file in context.spool.catalog.files(stream.id) if file.path != path and file.checkpoint]
    return max(files, key=lambda file: (file.gone_ms is None, file.gone_ms or 0), default=None)


def _continues(content: Lines, stream: StreamState, other: FileState) -> bool:
    """Return whether a second file of a stream begins with all bytes that were captured."""
    checkpoint: Checkpoint | None = other.checkpoint
    return (
        checkpoint is not None
        and checkpoint.offset == stream.folded <= content.size
        and content.probe(stream.folded) == checkpoint.probe
    )


def _is_outdated(context: IngestContext, file: FileState) -> bool:
    """Return whether a file was last read by an earlier version of its projection.

    Its records differ from those of a newer version even if it has the same messages. So it shows nothing about whether
    two files have one session: without this, each copy of a session would become a stream of its own.
    """
    outer = context.spool.catalog.file(file.path.partition("::")[0]) or file
    return outer.checkpoint is not None and outer.checkpoint.outdated
