"""Applies changes of the configuration to the spool: redaction, exclusion, kept transcripts and the machine id.

Queued segments are masked again, sessions that are now excluded are purged, and files that no longer are excluded are
read again. So are the documents and databases of tools whose projection has changed. This runs once at start, before
anything is pushed. After a kill in the middle it runs again; bytes that are masked already stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from sessiond import zstd
from sessiond.errors import SpoolDamaged
from sessiond.ingest.admission import purge_session
from sessiond.ingest.context import IngestContext
from sessiond.ingest.forget import erase_forgotten
from sessiond.ingest.pipeline import LEVEL
from sessiond.reader import CHUNK
from sessiond.sources import find_sources
from sessiond.sources.base import Source
from sessiond.spool.pushed_digests import PushedDigests
from sessiond.spool.rows import Frame
from sessiond.spool.scrub import scrub

TERMS = "privacy.terms"
"""Meta key: version of the redaction rules by which everything in the queue was masked."""
MACHINE = "machine_id"
"""Meta key: the machine id of the records in the outbox."""
EXCLUSION = "privacy.exclusion"
"""Meta key: version of the globs by which sessions were excluded."""
PROJECTIONS = "projections"
"""Meta key: the version of the projection by which each tool's documents and databases were captured, as JSON."""


def apply_policy_changes(context: IngestContext) -> int:
    """Apply the current configuration to the spool; return how many queued segments were masked again.

    Raises: SpoolDamaged if a queued segment can't be read.
    """
    _apply_kept_transcripts(context)
    _apply_exclusion(context)
    erase_forgotten(context)
    _apply_machine_id(context)
    apply_projections(context, find_sources())
    if os.listdir(context.pins.directory):
        context.pins.sweep(context.spool.catalog.pins())
    if context.spool.meta(TERMS) == context.masking.version:
        return 0
    changed = _mask_queue(context)
    with context.spool.erasing():
        _mask_records(context)
        context.spool.set_meta(TERMS, context.masking.version)
    scrub(context.spool)
    return changed


def _apply_kept_transcripts(context: IngestContext) -> None:
    with context.spool.erasing():
        context.spool.catalog.skip_transcripts(context.records_only)
        context.spool.catalog.keep_transcripts(context.records_only)
        context.spool.outbox.invalidate_size()


def _apply_exclusion(context: IngestContext) -> None:
    if context.spool.meta(EXCLUSION) == context.exclusion.version:
        return
    drop_excluded(context)
    with context.spool.transaction():
        context.spool.catalog.reread_files_without_session()
        context.spool.set_meta(EXCLUSION, context.exclusion.version)


def _apply_machine_id(context: IngestContext) -> None:
    """Set the current machine id in waiting records. Retry parked items: the old id may have been the reason.

    The endpoint may have a whole stream of such a session under the old id only, perhaps from another device. Its
    position under the new id is asked for, or the stream would count as stored. The same is done for a session that
    waits for nothing once its next record has the new id (`put_record`).
    """
    spool = context.spool
    if spool.meta(MACHINE) == context.machine_id:
        return
    with spool.transaction():
        for session in spool.outbox.unsent():
            if session.record is not None and session.record.machine_id != context.machine_id:
                record = msgspec.structs.replace(session.record, machine_id=context.machine_id)
                spool.catalog.replace_record(session.id, msgspec.json.encode(record), session.title)
                spool.catalog.raise_revision(session.id, 0, context.now_ms())
                spool.catalog.set_session_unknown(session.id)
        spool.outbox.retry()
        spool.set_meta(MACHINE, context.machine_id)


def apply_projections(context: IngestContext, sources: Iterable[Source]) -> None:
    """Mark sessions that an earlier version of their source's projection captured, so that they are read again.

    What a later version adds would otherwise never be captured of sessions that do not change any more. A session whose
    records differ begins a new generation, as if its tool had rewritten it; the endpoint keeps the earlier one.
    """
    stored = msgspec.json.decode(context.spool.meta(PROJECTIONS) or "{}", type=dict[str, int])
    versions: dict[str, int] = {}
    for source in sources:
        versions[source.tool] = max(source.projection_version, versions.get(source.tool, 1))
    changed = [tool for tool, version in versions.items() if version > stored.get(tool, 1)]
    if changed:
        with context.spool.transaction():
            # In one transaction: a version without outdated checkpoints would keep the old records for good.
            context.spool.catalog.outdate_projections(changed)
            context.spool.set_meta(PROJECTIONS, msgspec.json.encode({**stored, **versions}).decode())


def drop_excluded(context: IngestContext) -> None:
    """Purge all sessions that are excluded now."""
    with context.spool.reading():
        known = context.spool.catalog.directories()
    for directory, sessions in known.items():
        if context.exclusion.excludes(directory):
            for session in sessions:
                purge_session(context, session, excluded=True)


def _mask_queue(context: IngestContext) -> int:
    """Mask the queued frames again. A record may span several frames, so consecutive ones are masked as one run."""
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
        data = _decompress(frame, packed)
        if (frame.stream, frame.generation) != key or frame.offset != end:
            changed += _settle(context, waiting, masked + run.finish())
            raw = context.spool.catalog.stream(frame.stream).media_type is not None
            run, masked = context.masking.run(_path(context, frame.stream), raw=raw), bytearray()
        key, end = (frame.stream, frame.generation), frame.offset + frame.length
        waiting.append((frame, data))
        for _, part in run.feed(frame.offset, data):
            masked += part.data
        if not run.inside:
            changed += _settle(context, waiting, masked)
            masked = bytearray()
    return changed + _settle(context, waiting, masked + run.finish())


def _decompress(frame: Frame, packed: bytes) -> bytes:
    """Return the bytes of a queued frame.

    Raises: SpoolDamaged if they are not those that were stored: masked again, the damage would get a valid checksum.
    """
    try:
        data = zstd.decompress(packed, 2 * CHUNK)
    except zstd.Undecodable as error:
        raise SpoolDamaged(f"the spool is damaged: a segment in it can't be decompressed: {error}") from error
    if len(data) != frame.length:
        raise SpoolDamaged(f"the spool is damaged: a segment of {frame.length} bytes in it has {len(data)}")
    return data


def _path(context: IngestContext, stream: int) -> str:
    return next((file.path for file in context.spool.catalog.files(stream)), "")


def _settle(context: IngestContext, waiting: list[tuple[Frame, bytes]], masked: bytes | bytearray) -> int:
    """Replace queued bytes by masked ones where they differ."""
    start = changed = 0
    with context.spool.erasing():
        for frame, data in waiting:
            replacement = bytes(masked[start : start + len(data)])
            start += len(data)
            if replacement != data:
                context.spool.catalog.replace_frame(frame.id, zstd.compress(replacement, LEVEL))
                _digest_again(context, frame, replacement)
                changed += 1
    waiting.clear()
    return changed


def _digest_again(context: IngestContext, frame: Frame, data: bytes) -> None:
    """Store the digests of what is queued now of each extent in a frame.

    Of an extent that is not wholly in it, it is not known any more whether something is masked.
    """
    catalog, digest, end = context.spool.catalog, context.digest, frame.offset + frame.length
    if catalog.stream(frame.stream).generation != frame.generation:
        return  # extents are those of the current generation
    masked: dict[int, bytes | None] = {}
    for extent in catalog.extents(frame.stream, frame.offset):
        if extent.start >= end:
            break
        whole = extent.start >= frame.offset and extent.end <= end
        masked[extent.start] = digest(data[extent.start - frame.offset : extent.end - frame.offset]) if whole else b""
    catalog.put_masked(frame.stream, masked)


def _mask_records(context: IngestContext) -> None:
    # They have the last bytes of each stream, masked by the old rules.
    PushedDigests(context.spool.connection).reduce_all()
    for session in context.spool.outbox.sessions(1 << 31):
        for stream in context.spool.catalog.streams(session.id):
            context.masking.fold(stream.fold)
            context.spool.catalog.save_stream(stream)
        if session.record is not None:
            record, title = context.masking.record(session.record), context.masking.text(session.title)
            if (record, title) != (session.record, session.title):
                context.spool.catalog.replace_record(session.id, msgspec.json.encode(record), title)
