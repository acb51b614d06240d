"""Converts items of the outbox to lines of a push."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from msgspec import UNSET

from sessiond import zstd
from sessiond.endpoint import wire
from sessiond.endpoint.origin import Origin
from sessiond.endpoint.stream_digest import FEATURE
from sessiond.errors import SpoolDamaged
from sessiond.spool.rows import Segment, SessionState
from sessiond.upload.context import Item, UploadContext

MAX_TEXT = 32 << 10
"""Segments of up to this many bytes are sent as text, so that the whole body is compressed at once.

A larger segment is sent as its compressed frame.
"""


def to_push(context: UploadContext, item: Item, lengths: Mapping[int, list[wire.StreamLength]]) -> wire.Push:
    """Return the line of a push for an item. `lengths` are those of the streams of each session, by its row.

    Raises: SpoolDamaged for a segment that can't be decompressed.
    """
    if isinstance(item, SessionState):
        assert item.record is not None
        return wire.PushSession(
            record=item.record,
            revision=item.revision,
            device_id=context.device_id,
            parent=item.parent,
            title=item.title,
            gone_at=item.gone_ms,
            prompts_only=item.prompts_only,
            continues=_origin(context, item),
            streams=lengths[item.id],
        )
    if item.data is None:
        assert item.keep is not None
        context.stream_digests.begin_generation(item)
        return wire.PushGeneration(
            machine_id=context.machine_id,
            session=item.session,
            stream=item.stream,
            generation=item.generation,
            previous=item.previous,
            keep=item.keep,
            after=None if FEATURE in context.client.features else UNSET,
        )
    return _append(context, item, item.data)


def _origin(context: UploadContext, item: SessionState) -> Origin | None:
    mark = context.restored.find(item.uuid)
    return None if mark is None else Origin(machine_id=mark.continues.machine_id, id=mark.continues.id)


def _append(context: UploadContext, item: Segment, frame: bytes) -> wire.PushAppend:
    knows_digests = FEATURE in context.client.features
    plain = decode(item, frame) if knows_digests or item.length <= MAX_TEXT else b""
    text = _text(plain) if item.length <= MAX_TEXT else None
    return wire.PushAppend(
        machine_id=context.machine_id,
        session=item.session,
        stream=item.stream,
        generation=item.generation,
        offset=item.offset,
        length=item.length,
        sha256=hashlib.sha256(frame if text is None else text.encode()).hexdigest(),
        data=base64.b64encode(frame).decode() if text is None else text,
        encoding="zstd" if text is None else "text",
        media_type=item.media_type,
        after=context.stream_digests.append(item, plain) if knows_digests else UNSET,
    )


def decode(item: Segment, frame: bytes) -> bytes:
    """Return a segment's bytes. Raises: SpoolDamaged if the frame does not decompress to what was stored."""
    try:
        return zstd.decompress(frame, item.length)
    except zstd.Undecodable as error:
        raise SpoolDamaged(f"the spool is damaged: a segment in it can't be decompressed: {error}") from error


def _text(plain: bytes) -> str | None:
    try:
        return plain.decode()
    except UnicodeDecodeError:
        return None
