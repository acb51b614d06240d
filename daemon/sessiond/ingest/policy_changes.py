"""When the terms change: what is queued is masked anew, what is excluded by now goes, what no longer is comes back.
And when the machine id does: what is not stored yet is the new one's.

Runs once at a start, before anything is pushed. A kill in the middle repeats it: what is covered stays as it is.
"""

from __future__ import annotations

import os

import msgspec

from sessiond import zstd
from sessiond.ingest.admission import purge_session
from sessiond.ingest.capture import LEVEL
from sessiond.ingest.context import IngestContext
from sessiond.privacy.masking import Run
from sessiond.reader import CHUNK
from sessiond.spool.rows import Frame

TERMS = "privacy.terms"
"""Meta key: by which terms all that is queued was masked."""
MACHINE = "machine_id"
"""Meta key: the machine id that the records in the outbox have."""
EXCLUSION = "privacy.exclusion"
"""Meta key: by which globs sessions were excluded."""


def apply_policy_changes(context: IngestContext) -> int:
    """Bring the spool up to the terms in force; return how many queued segments were masked anew."""
    _renew_kept(context)
    _renew_exclusion(context)
    _renew_machine(context)
    if os.listdir(context.pins.directory):
        context.pins.sweep(context.spool.catalog.pins())
    if context.spool.meta(TERMS) == context.masking.version:
        return 0
    changed = _mask_queue(context)
    with context.spool.erasing():
        _mask_records(context)
        context.spool.set_meta(TERMS, context.masking.version)
    return changed


def _renew_kept(context: IngestContext) -> None:
    with context.spool.erasing():
        context.spool.catalog.skip_transcripts(context.records_only)
        context.spool.catalog.keep_transcripts(context.records_only)
        context.spool.outbox.forget_count()


def _renew_exclusion(context: IngestContext) -> None:
    if context.spool.meta(EXCLUSION) == context.exclusion.version:
        return
    drop_excluded(context)
    with context.spool.transaction():
        context.spool.catalog.look_again()
        context.spool.set_meta(EXCLUSION, context.exclusion.version)


def _renew_machine(context: IngestContext) -> None:
    """Let what waits go out under the machine id in force; what was parked may have been so for the other one."""
    spool = context.spool
    if spool.meta(MACHINE) == context.machine_id:
        return
    with spool.transaction():
        for session in spool.outbox.unsent():
            if session.record is not None and session.record.machine_id != context.machine_id:
                record = msgspec.structs.replace(session.record, machine_id=context.machine_id)
                spool.catalog.replace_record(session.id, msgspec.json.encode(record), session.title)
                spool.catalog.raise_revision(session.id, 0, context.now_ms())
        spool.outbox.retry()
        spool.set_meta(MACHINE, context.machine_id)


def drop_excluded(context: IngestContext) -> None:
    """Let go of all sessions that are excluded by now."""
    with context.spool.reading():
        known = context.spool.catalog.directories()
    for directory, sessions in known.items():
        if context.exclusion.excludes(directory):
            for session in sessions:
                purge_session(context, session)


def _mask_queue(context: IngestContext) -> int:
    """Mask the queued frames anew. A record may lie in several of them: they are masked as one run."""
    spool, changed = context.spool, 0
    run, waiting = context.masking.run(), list[tuple[Frame, bytes]]()
    masked, end = bytearray(), -1
    key: tuple[int, int] | None = None
    with spool.reading():
        frames = list(spool.catalog.frames())
    for frame in frames:
        packed = spool.catalog.load_frame(frame.id)
        if packed is None:
            continue
        data = zstd.decompress(packed, 2 * CHUNK)
        if (frame.stream, frame.generation) != key or frame.offset != end:
            changed += _settle(context, waiting, masked + _rest(run))
            run, masked = context.masking.run(_path(context, frame.stream)), bytearray()
        key, end = (frame.stream, frame.generation), frame.offset + frame.length
        waiting.append((frame, data))
        for _, part in run.feed(frame.offset, data):
            masked += part.data
        if not run.inside:
            changed += _settle(context, waiting, masked)
            masked = bytearray()
    return changed + _settle(context, waiting, masked + _rest(run))


def _path(context: IngestContext, stream: int) -> str:
    return next((file.path for file in context.spool.catalog.files(stream)), "")


def _rest(run: Run) -> bytes:
    """Give what is left of a record of which the end is not queued."""
    return b"".join(part.data for _, part in run.feed(0, b"\n"))[:-1] if run.inside else b""


def _settle(context: IngestContext, waiting: list[tuple[Frame, bytes]], masked: bytes | bytearray) -> int:
    """Put masked bytes in the location of what is queued, where they differ."""
    start = changed = 0
    with context.spool.erasing():
        for frame, data in waiting:
            fresh = bytes(masked[start : start + len(data)])
            start += len(data)
            if fresh != data:
                context.spool.catalog.replace_frame(frame.id, zstd.compress(fresh, LEVEL))
                changed += 1
        context.spool.outbox.forget_count()
    waiting.clear()
    return changed


def _mask_records(context: IngestContext) -> None:
    for session in context.spool.outbox.sessions(1 << 31):
        for stream in context.spool.catalog.streams(session.id):
            context.masking.fold(stream.fold)
            context.spool.catalog.save_stream(stream)
        if session.record is not None:
            record, title = context.masking.record(session.record), context.masking.text(session.title)
            if (record, title) != (session.record, session.title):
                context.spool.catalog.replace_record(session.id, msgspec.json.encode(record), title)
