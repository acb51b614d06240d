"""Pushes again what was parked because the machine id belonged to another device, once this device may have it."""

from __future__ import annotations

from sessiond.logs import log
from sessiond.upload.context import UploadContext

MACHINE_TAKEN = "machine-taken"
"""The problem of an item whose machine id belongs to another device."""
REASON = "endpoint.machine_taken"
"""Meta key: why such items were parked. It is unset when they are in the outbox again."""


def note_taken(context: UploadContext, reason: str) -> None:
    """Store that items are parked for this reason, in the transaction that parks them."""
    if context.spool.meta(REASON) != reason:
        context.spool.set_meta(REASON, reason)


def retry_taken(context: UploadContext) -> None:
    """Put such items back into the queue if the endpoint lets this device have the machine id now.

    That is so after `serve adopt`. Raises: EndpointError.
    """
    spool, reason = context.spool, context.spool.meta(REASON)
    if reason is None or context.reader.is_taken(context.machine_id):
        return
    with spool.transaction():
        count = spool.outbox.retry_parked_for(reason)
        spool.set_meta(REASON, None)
    if count:
        log.info("upload.unparked", machine_id=context.machine_id, items=count)
