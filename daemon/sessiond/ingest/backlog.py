"""What waits to be read: transcripts for which the outbox had no room, and what the endpoint has lost."""

from __future__ import annotations

import os

from sessiond.errors import ReadError, Torn
from sessiond.ingest import Outcome, Place, Setting, ingest, locate
from sessiond.ingest.capture import DAMAGED, Capture
from sessiond.ingest.content import Content, Lines
from sessiond.ingest.gone import release_pins
from sessiond.ingest.opened import open_content
from sessiond.ingest.setting import outer_path
from sessiond.ingest.sync import reconcile, reconcile_without_source
from sessiond.sources.base import Source
from sessiond.spool.rows import FileState, StreamState


def catch_up(setting: Setting, limit: int, stuck: set[int] | None = None) -> bool:
    """Read on in up to `limit` streams that wait; tells whether it is worth to go on with that now.

    `stuck` gathers the streams that got nowhere though there was room: they are passed over for as long as the
    caller remembers them, so that they do not keep the others waiting. It ends early after `setting.slice` bytes.
    """
    passed, catalog, outbox = set[int]() if stuck is None else stuck, setting.spool.catalog, setting.spool.outbox
    with setting.spool.reading():
        waiting = [number for number in catalog.behind(limit + len(passed)) if number not in passed][:limit]
    worth, read = False, 0
    for number in waiting:
        if setting.slice is not None and read >= setting.slice:
            return True
        with setting.spool.reading():
            before, urgent = catalog.progress(number)
        outcome = _catch_up_one(setting, number)
        read += outcome.read + outcome.searched
        with setting.spool.reading():
            if catalog.progress(number)[0] != before or (outcome.more and outcome.searched):
                worth = True
            elif urgent or outbox.size < setting.budget_of_lines:
                worth |= stuck is not None
                passed.add(number)
    return worth


def _catch_up_one(setting: Setting, number: int) -> Outcome:
    """Read a stream again from the first place that has it: the tool's file, our link to it. Else give it up."""
    with setting.spool.reading():
        stream = setting.spool.catalog.stream(number)
        files = setting.spool.catalog.files(number)
    unwatched = False
    for file in files:
        path, native_id = outer_path(file.path)
        # A container may stand while this session of it is gone.
        if not os.path.lexists(path) or (native_id and file.gone_ms is not None):
            continue
        for place in locate(setting.places, path):
            if place.source.tool == file.tool:
                return ingest(setting, place, only=[native_id] if native_id else [path])
        for place in locate(setting.dormant, path):
            if place.source.tool == file.tool:
                return _read_dormant(setting, stream, file, place)
        unwatched = True
    for file in files:
        if file.pin is not None:
            return _from_pin(setting, stream, file)
    if not unwatched:  # a file below no root any more is not read, but it is not lost either: it waits
        _give_up(setting, stream)
    return Outcome()


def _read_dormant(setting: Setting, stream: StreamState, file: FileState, place: Place) -> Outcome:
    """Read what was captured of a source that is switched off now; nothing that was added since."""
    try:
        with open_content(setting, place, outer_path(file.path)[1], stream) as content:
            return _read_again(setting, stream, file, content, place.source, captured_only=True)
    except (ReadError, Torn, *DAMAGED) as error:
        return Outcome(trouble=str(error))
    except OSError as error:
        return Outcome(trouble=f"not read: {error.strerror}")


def _from_pin(setting: Setting, stream: StreamState, file: FileState) -> Outcome:
    """Read the file that its tool has deleted, through the link that we kept (rule 5)."""
    assert file.pin is not None
    path = setting.pins.path(file.pin)
    known = (*setting.places, *setting.dormant)
    source = next((source for source, _ in known if source.tool == file.tool), None)
    if source is None:
        return Outcome()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        _give_up(setting, stream)
        return Outcome()
    try:
        most = setting.slice
        if any(place.unit.packed for place in locate(known, file.path) if place.source is source):
            packed = descriptor
            descriptor = setting.packed.open(packed, path, setting.pins.directory, setting.now_ms())
            os.close(packed)
            most = None
        endings = setting.endings.of(descriptor, setting.digest, most)
        content = Lines(descriptor, setting.digest, endings)
        return _read_again(setting, stream, file, content, source, most=most)
    except ReadError as error:
        return Outcome(trouble=str(error))
    except OSError as error:  # no room to unpack it, say
        return Outcome(trouble=f"not read: {error.strerror}")
    finally:
        os.close(descriptor)


def _read_again(
    setting: Setting,
    stream: StreamState,
    file: FileState,
    content: Content,
    source: Source,
    *,
    captured_only: bool = False,
    most: int | None = None,
) -> Outcome:
    now_ms, read = setting.now_ms(), 0
    if stream.held is not None:
        reconcile(setting.spool, stream, content, stream.held, setting.masking, now_ms, file.path)
    budget = setting.budget_of_lines
    capture = Capture(setting.spool, source, stream, setting.masking, setting.digest, budget, file.path, now_ms)
    behind = capture.requeue(content) if captured_only else capture.advance(content)
    for steps in (capture.fill_gap(content), behind):
        for step in steps:
            read += step.read
            with setting.spool.transaction():
                capture.store(step, now_ms)
            if most is not None and read >= most:
                return Outcome(read=read, more=True)
    with setting.spool.reading():
        stream = setting.spool.catalog.stream(stream.id)
        room = setting.spool.outbox.size < budget
    if stream.queued < stream.folded or stream.gap is not None:
        if not read and room:  # other bytes stand there now: those that were captured are nowhere
            _give_up(setting, stream)
    elif content.search.done:
        # While the search for a record's end goes on, the link keeps what its tool has deleted.
        with setting.spool.transaction():
            release_pins(setting, stream.id)
    return Outcome(read=read, more=content.search.more, searched=content.search.read)


def _give_up(setting: Setting, stream: StreamState) -> None:
    """Stop waiting for bytes that no place has any more. `status` lists the session as lost; it is never silent."""
    if stream.held is not None:
        return reconcile_without_source(setting.spool, stream, stream.held, setting.now_ms())
    with setting.spool.transaction():
        setting.spool.catalog.give_up(stream.id)
    return None
