"""Binds the spool to the endpoint that answers, and detects that it is another one or was restored from a backup."""

from __future__ import annotations

import msgspec

from sessiond.spool import Spool, health
from sessiond.spool.safety import BOUND, BOUND_ENDPOINT, CHANGED, KEEP_DAYS, LAST_BATCH, UNTRUSTED
from sessiond.upload.context import UploadContext, expected_batch_names

COMPARE_MS = 900_000
"""Milliseconds between two comparisons of all streams."""
DISTRUST_MS = 86_400_000
"""Milliseconds after which another comparison reads all files, if a copy of this state pushes to the endpoint."""


def bind(context: UploadContext) -> bool:
    """Ask which endpoint answers; return whether both sides remember the same last batch.

    If they do not, the endpoint is another one, or one of the two sides was restored from a backup. Then every record
    is pushed again and the position of every stream is asked for. Raises: EndpointError.
    """
    about = context.client.about()
    identity, last = str(about.endpoint_id), context.spool.meta(LAST_BATCH)
    known, address = context.spool.meta(BOUND_ENDPOINT), context.address
    _note_keep_days(context, about.keep_days)
    follows = about.last_batch in expected_batch_names(context)
    same = known == identity and follows and context.spool.meta(UNTRUSTED) is None
    if not same:
        with context.spool.transaction():
            context.spool.catalog.change_endpoint(known, identity)
            if last is not None and not follows:
                _check_history(context, about.last_batch, returning=known != identity)
            # Restored sessions without a message of their own were left to the endpoint that they came from. This one
            # may lack them, so admission has to decide again.
            if context.restored:
                context.spool.catalog.reread_files_without_session()
            context.spool.set_meta(UNTRUSTED, None)
            context.spool.set_meta(CHANGED, None)
            context.spool.set_meta(BOUND_ENDPOINT, identity)
            context.spool.set_meta(LAST_BATCH, about.last_batch)
        context.attempts = 0
        context.disputed.clear()
    if context.spool.meta(BOUND) != address:
        context.spool.set_meta(BOUND, address)
    return same


def _note_keep_days(context: UploadContext, days: int | None) -> None:
    """Store for how many days the endpoint keeps sessions. If that changed, it may keep some that it let go before."""
    shown = None if days is None else str(days)
    if context.spool.meta(KEEP_DAYS) != shown:
        with context.spool.transaction():
            context.spool.outbox.offer_expired()
            context.spool.set_meta(KEEP_DAYS, shown)


def store_batch(context: UploadContext, batch: str, previous: str | msgspec.UnsetType | None) -> bool:
    """Store the name of an acknowledged batch, in the transaction that applies its results.

    Return whether the endpoint has to be identified again, which the next push does.

    `previous` is the batch that the endpoint had stored before this one, unset if it does not report that. If it is
    not the last one of this installation, the endpoint was restored from an older copy. Afterwards both sides have
    the same last batch again, so this is the only moment at which that can be detected. Then every stream is compared.

    Two copies of a state directory find each other's batches at each push. To keep them from comparing all streams
    each time, a second detection within COMPARE_MS has its effect at the next `bind`.
    """
    restored = False
    spool, now_ms = context.spool, context.clock.now_ms()
    if previous not in (msgspec.UNSET, context.last_batch) and previous not in expected_batch_names(context):
        if spool.meta(LAST_BATCH) is not None:
            _check_history(context, previous, returning=False)
        if context.compared_ms is None or now_ms - context.compared_ms > COMPARE_MS:
            endpoint = spool.meta(BOUND_ENDPOINT)
            spool.catalog.change_endpoint(endpoint, endpoint)
            spool.catalog.reread_files_without_session()  # as in `bind`
            context.compared_ms = now_ms
            restored = True
            context.client.identify_again()
        else:
            spool.set_meta(UNTRUSTED, "1")
    spool.set_meta(LAST_BATCH, batch)
    spool.catalog.add_batch(batch)
    return restored


def _check_history(context: UploadContext, batch: str | msgspec.UnsetType | None, *, returning: bool) -> None:
    """Distrust the endpoint's copies if `batch`, the last one that is stored there, was not pushed from this spool.

    If it was, the endpoint was restored from an older copy, and its bytes of a generation are the first that were
    pushed. If it was not, another copy of this state directory has pushed there. That copy may have given a
    generation's number to other bytes, and to append to them would corrupt the stream at the endpoint.

    Two running copies find each other's batches again and again. Comparing the streams reads all files, so it is done
    once a day at most: a generation's number is free for one of the copies only.

    `returning`: another endpoint was used before, perhaps long ago. Then an unknown batch is no sign of a copy.
    """
    spool, now_ms = context.spool, context.clock.now_ms()
    if not isinstance(batch, str) or spool.catalog.has_batch(batch):
        return
    diverged = health.read_copies(spool).diverged_ms
    if returning or not diverged or now_ms - diverged[-1] > DISTRUST_MS:
        spool.catalog.distrust_positions()
    if not returning:
        health.note_divergence(spool, now_ms)


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
        spool.set_meta(CHANGED, "1")
        spool.catalog.reread_files_without_session()  # as in `bind`; a `sync` scans before the endpoint answers
