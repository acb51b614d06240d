"""Learns from the endpoint which sessions it erased or let go: those of its list that are captured here."""

from __future__ import annotations

from collections.abc import Callable

from sessiond.endpoint.erasure import ForgottenAnswer
from sessiond.errors import NotFound
from sessiond.spool import Spool
from sessiond.spool.forgotten import REASON
from sessiond.spool.safety import BOUND, BOUND_ENDPOINT

POSITION = "forgotten.position"
"""Meta key: the endpoint's id, when its list of erased sessions was begun, and the position up to which it was read."""
WHOLE_MS = 86_400_000
"""Milliseconds after which the list is read from its beginning if this machine had sessions erased."""
MOST_PAGES = 1000
"""Pages of that list that are read at once; the others are read after the next identification of the endpoint."""


def learn_forgotten(
    spool: Spool, list_forgotten: Callable[[str | None], ForgottenAnswer], now_ms: int, machine_id: str
) -> int:
    """Store tombstones of captured sessions that the endpoint has erased; return how many are new.

    A push of such a session is answered `forgotten`. But a spool that was restored from a backup may have nothing to
    push of it, and would count it as safe. The same is true, in any spool, of a session that the endpoint let go.

    The list also has the sessions that this machine had erased there. If one is missing, the endpoint was restored from
    an older copy, and has to erase the session once more. If the list has grown since then, the endpoint accepts a
    position from before the restore. So the list is read from its beginning once a day.

    Raises: EndpointError.
    """
    endpoint, learned = spool.meta(BOUND_ENDPOINT), 0
    archive = spool.meta(BOUND) == ""  # the built-in archive is the endpoint
    daily = spool.forgotten.any_confirmed(archive=archive)
    at, begun_ms = _position(spool, endpoint, now_ms, daily=daily)
    for _ in range(MOST_PAGES):  # rule 12: an endpoint that always has more must not keep us from pushing
        try:
            answer = list_forgotten(at)
        except NotFound:
            if at is None:
                return learned  # an endpoint of an earlier version
            at, begun_ms = None, now_ms  # it was restored from an older copy
            continue
        with spool.transaction():
            if at is None:
                spool.forgotten.unlist_all()
            for each in answer.forgotten:
                # Others need no tombstone here. If one is found later, the answer to its first push says so.
                if spool.forgotten.is_captured(str(each.id)) and not spool.forgotten.has(str(each.id)):
                    spool.forgotten.learn(str(each.id), now_ms)
                    spool.outbox.park_all(str(each.id), REASON)
                    learned += 1
                spool.forgotten.note_listed(str(each.id))
            for gone in answer.expired:
                if gone.machine_id == machine_id and spool.forgotten.is_captured(str(gone.id)):
                    spool.outbox.expire(str(gone.id), now_ms)
            if not answer.more:
                spool.forgotten.order_unlisted(archive=archive)
            spool.set_meta(POSITION, f"{endpoint} {begun_ms} {answer.next}")
        if not answer.more or answer.next == at:
            break
        at = answer.next
    return learned


def _position(spool: Spool, endpoint: str | None, now_ms: int, *, daily: bool) -> tuple[str | None, int]:
    """Return where to read on, None for the beginning, and when the list was begun. `daily`: it is begun each day."""
    known, _, rest = (spool.meta(POSITION) or "").partition(" ")
    begun, _, since = rest.partition(" ")
    if known != endpoint or not since:
        return None, now_ms
    if daily and not 0 <= now_ms - int(begun) < WHOLE_MS:
        return None, now_ms
    return since, int(begun)
