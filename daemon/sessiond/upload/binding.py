"""Binds the spool to the endpoint that answers, and detects that it is another one or was restored from a backup."""

from __future__ import annotations

from sessiond.spool import Spool, health
from sessiond.spool.safety import BOUND
from sessiond.upload.context import BOUND_ENDPOINT, LAST_BATCH, UploadContext, expected_batch_names


def bind(context: UploadContext) -> bool:
    """Ask which endpoint answers; return whether both sides remember the same last batch.

    If they do not, the endpoint is another one, or one of the two sides was restored from a backup. Then every record
    is pushed again and the position of every stream is asked for. Raises: EndpointError.
    """
    about = context.client.about()
    identity, last = str(about.endpoint_id), context.spool.meta(LAST_BATCH)
    known, address = context.spool.meta(BOUND_ENDPOINT), context.address
    same = known == identity and about.last_batch in expected_batch_names(context)
    if not same:
        with context.spool.transaction():
            if known == identity and last is not None and about.last_batch is not None:
                health.note_divergence(context.spool, context.now_ms())
            context.spool.catalog.change_endpoint(known, identity)
            context.spool.set_meta(BOUND_ENDPOINT, identity)
            context.spool.set_meta(LAST_BATCH, about.last_batch)
        context.attempts = 0
    if context.spool.meta(BOUND) != address:
        context.spool.set_meta(BOUND, address)
    return same


def unbind_changed_endpoint(spool: Spool, address: str) -> None:
    """Discard all acknowledgements if the configured address is not the one they came from.

    `address` is the configured one, "" for the built-in archive. This happens before the new endpoint has answered:
    otherwise `status` would call bytes safe that the configured endpoint does not have.
    """
    bound = spool.meta(BOUND)
    if bound is None or bound == address:
        return
    with spool.transaction():
        spool.catalog.change_endpoint(spool.meta(BOUND_ENDPOINT), None)
        spool.set_meta(BOUND_ENDPOINT, None)
        spool.set_meta(BOUND, None)
