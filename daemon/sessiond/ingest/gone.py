"""Files that vanish and come back, sessions that fall idle, files that can't be read."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from sessiond.errors import ReadError
from sessiond.ingest.advance import refresh_session
from sessiond.ingest.setting import Outcome, Place, Setting
from sessiond.sources.base import Source
from sessiond.spool.rows import FileState, StreamState


def note_gone(setting: Setting, known: FileState | None) -> Outcome:
    """Note that a file is not there any more, and with it the sessions inside. Rule 4: nothing is deleted for that."""
    if known is None or known.gone_ms is not None:
        return Outcome()
    now_ms, changed = setting.now_ms(), False
    with setting.spool.transaction():
        for file in (known, *setting.spool.catalog.inside(known.path)):
            if file.gone_ms is None:
                changed |= _note_one_gone(setting, file, now_ms)
    return Outcome(changed=changed)


def _note_one_gone(setting: Setting, file: FileState, now_ms: int) -> bool:
    catalog = setting.spool.catalog
    catalog.save_file(replace(file, gone_ms=now_ms, trouble=None))
    if file.stream is None:
        return False
    session = catalog.stream(file.stream).session
    left = [file for stream in catalog.streams(session) for file in catalog.files(stream.id)]
    if any(other.gone_ms is None for other in left):
        # It may go on under another name, which its record is to have now that this one is gone.
        source = next((source for source, _ in setting.places if source.tool == file.tool), None)
        return source is not None and refresh_session(setting, session, source, touched=False)
    gone = catalog.set_gone(session, now_ms)
    if gone:
        catalog.raise_revision(session, 0, now_ms)
    return gone


def note_back(setting: Setting, known: FileState) -> None:
    """Note that a file which was gone is there again, and with it the sessions that went with it."""
    catalog = setting.spool.catalog
    with setting.spool.transaction():
        for file in (known, *catalog.inside(known.path)):
            if file.gone_ms == known.gone_ms:
                catalog.save_file(replace(file, gone_ms=None))
                if file.stream is not None:
                    stream = catalog.stream(file.stream)
                    ask_again(setting, stream)
                    if catalog.set_gone(stream.session, None):
                        catalog.raise_revision(stream.session, 0, setting.now_ms())


def ask_again(setting: Setting, stream: StreamState) -> None:
    """Ask the endpoint about a stream of which bytes were given up: a file that came back may have them.

    The answer is reconciled with the file, and what the endpoint lacks is read again.
    """
    if stream.given_up:
        with setting.spool.transaction():
            setting.spool.catalog.set_unknown(stream.id)


def release_pins(setting: Setting, stream: int) -> None:
    """Let go of all files of a stream that were kept for it: it is caught up."""
    for file in setting.spool.catalog.files(stream):
        if file.pin is not None:
            setting.pins.settle(file.path, stream, needed=False, old=file.pin)
            setting.spool.catalog.save_pin(file.path, None)


def note_trouble(setting: Setting, place: Place, known: FileState | None, error: ReadError) -> Outcome:
    """Remember why a file can't be read, for status; the next change or rescan tries again."""
    trouble = str(error)
    if known is None or known.trouble != trouble:
        base = known or FileState(path=place.path, tool=place.source.tool)
        with setting.spool.transaction():
            setting.spool.catalog.save_file(replace(base, trouble=trouble))
    return Outcome(trouble=trouble)


def sweep_idle(setting: Setting, sources: Mapping[str, Source]) -> int:
    """End the sessions that were idle for long enough and whose process is not known to run; tells how many."""
    now_ms, ended = setting.now_ms(), 0
    for number in setting.spool.catalog.idle(now_ms - setting.idle_after_ms):
        source = sources.get(setting.spool.catalog.session_by_row(number).tool)
        if source is not None:
            with setting.spool.transaction():
                ended += refresh_session(setting, number, source, touched=False)
    return ended
