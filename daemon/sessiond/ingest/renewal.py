"""When the terms change: what is queued is masked anew, what is excluded by now goes, what no longer is comes back.
And when the machine id does: what is not stored yet is the new one's.

Runs once at a start, before anything is pushed. A kill in the middle repeats it: what is covered stays as it is.
"""

from __future__ import annotations

import os

import msgspec

from sessiond import zstd
from sessiond.ingest.admission import forget
from sessiond.ingest.capture import LEVEL
from sessiond.ingest.setting import Setting
from sessiond.privacy.masking import Run
from sessiond.reader import CHUNK
from sessiond.spool.rows import Frame

TERMS = "privacy.terms"
"""Meta key: by which terms all that is queued was masked."""
MACHINE = "machine_id"
"""Meta key: the machine id that the records in the outbox have."""
EXCLUSION = "privacy.exclusion"
"""Meta key: by which globs sessions were excluded."""


def renew(setting: Setting) -> int:
    """Bring the spool up to the terms in force; return how many queued segments were masked anew."""
    _renew_kept(setting)
    _renew_exclusion(setting)
    _renew_machine(setting)
    if os.listdir(setting.pins.directory):
        setting.pins.sweep(setting.spool.catalog.pins())
    if setting.spool.meta(TERMS) == setting.masking.version:
        return 0
    changed = _mask_queue(setting)
    with setting.spool.erasing():
        _mask_records(setting)
        setting.spool.set_meta(TERMS, setting.masking.version)
    return changed


def _renew_kept(setting: Setting) -> None:
    with setting.spool.erasing():
        setting.spool.catalog.skip_transcripts(setting.records_only)
        setting.spool.catalog.keep_transcripts(setting.records_only)
        setting.spool.outbox.forget_count()


def _renew_exclusion(setting: Setting) -> None:
    if setting.spool.meta(EXCLUSION) == setting.exclusion.version:
        return
    drop_excluded(setting)
    with setting.spool.transaction():
        setting.spool.catalog.look_again()
        setting.spool.set_meta(EXCLUSION, setting.exclusion.version)


def _renew_machine(setting: Setting) -> None:
    """Let what waits go out under the machine id in force; what was parked may have been so for the other one."""
    spool = setting.spool
    if spool.meta(MACHINE) == setting.machine_id:
        return
    with spool.transaction():
        for session in spool.outbox.unsent():
            if session.record is not None and session.record.machine_id != setting.machine_id:
                record = msgspec.structs.replace(session.record, machine_id=setting.machine_id)
                spool.catalog.replace_record(session.id, msgspec.json.encode(record), session.title)
                spool.catalog.raise_revision(session.id, 0, setting.now_ms())
        spool.outbox.retry()
        spool.set_meta(MACHINE, setting.machine_id)


def drop_excluded(setting: Setting) -> None:
    """Let go of all sessions that are excluded by now."""
    with setting.spool.reading():
        known = setting.spool.catalog.directories()
    for directory, sessions in known.items():
        if setting.exclusion.excludes(directory):
            for session in sessions:
                forget(setting, session)


def _mask_queue(setting: Setting) -> int:
    """Mask the queued frames anew. A record may lie in several of them: they are masked as one run."""
    spool, changed = setting.spool, 0
    run, waiting = setting.masking.run(), list[tuple[Frame, bytes]]()
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
            changed += _settle(setting, waiting, masked + _rest(run))
            run, masked = setting.masking.run(_path(setting, frame.stream)), bytearray()
        key, end = (frame.stream, frame.generation), frame.offset + frame.length
        waiting.append((frame, data))
        for _, part in run.feed(frame.offset, data):
            masked += part.data
        if not run.inside:
            changed += _settle(setting, waiting, masked)
            masked = bytearray()
    return changed + _settle(setting, waiting, masked + _rest(run))


def _path(setting: Setting, stream: int) -> str:
    return next((file.path for file in setting.spool.catalog.files(stream)), "")


def _rest(run: Run) -> bytes:
    """Give what is left of a record of which the end is not queued."""
    return b"".join(part.data for _, part in run.feed(0, b"\n"))[:-1] if run.inside else b""


def _settle(setting: Setting, waiting: list[tuple[Frame, bytes]], masked: bytes | bytearray) -> int:
    """Put masked bytes in the place of what is queued, where they differ."""
    start = changed = 0
    with setting.spool.erasing():
        for frame, data in waiting:
            fresh = bytes(masked[start : start + len(data)])
            start += len(data)
            if fresh != data:
                setting.spool.catalog.replace_frame(frame.id, zstd.compress(fresh, LEVEL))
                changed += 1
        setting.spool.outbox.forget_count()
    waiting.clear()
    return changed


def _mask_records(setting: Setting) -> None:
    for session in setting.spool.outbox.sessions(1 << 31):
        for stream in setting.spool.catalog.streams(session.id):
            setting.masking.fold(stream.fold)
            setting.spool.catalog.save_stream(stream)
        if session.record is not None:
            record, title = setting.masking.record(session.record), setting.masking.text(session.title)
            if (record, title) != (session.record, session.title):
                setting.spool.catalog.replace_record(session.id, msgspec.json.encode(record), title)
