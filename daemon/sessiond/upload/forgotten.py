"""Learns from the endpoint which sessions it erased or let go: those of its list that are captured here."""

from __future__ import annotations

from collections.abc import Callable

from sessiond.endpoint.erasure import ForgottenAnswer
from sessiond.errors import NotFound
from sessiond.spool import Spool
from sessiond.spool.forgotten import REASON
from sessiond.spool.safety import BOUND_ENDPOINT

POSITION = "forgotten.position"
"""Meta key: the endpoint's id, and the position up to which its list of erased sessions was read."""
MOST_PAGES = 1000
"""Pages of that list that are read at once; the others are read after the next identification of the endpoint."""


def learn_forgotten(
    spool: Spool, list_forgotten: Callable[[str | None], ForgottenAnswer], now_ms: int, machine_id: str
) -> int:
    """Store tombstones of captured sessions that the endpoint has erased; return how many are new.

    A push of such a session is answered `forgotten`. But a spool that was restored from a backup may have nothing to
    push of it, and would count it as safe. So would any spool a session of this machine that the endpoint let go.

    Raises: EndpointError.
    """
    endpoint, learned = spool.meta(BOUND_ENDPOINT), 0
    known, _, since = (spool.meta(POSITION) or "").partition(" ")
    at = since if known == endpoint and since else None
    for _ in range(MOST_PAGES):  # rule 12: an endpoint that always has more must not keep us from pushing
        try:
            answer = list_forgotten(at)
        except NotFound:
            if at is None:
                return learned  # an endpoint of an earlier version
            at = None  # it was restored from an older copy
            continue
        with spool.transaction():
            for each in answer.forgotten:
                # Others need no tombstone here. If one is found later, the answer to its first push says so.
                if spool.forgotten.is_captured(str(each.id)) and not spool.forgotten.has(str(each.id)):
                    spool.forgotten.learn(str(each.id), now_ms)
                    spool.outbox.park_all(str(each.id), REASON)
                    learned += 1
            for gone in answer.expired:
                if gone.machine_id == machine_id and spool.forgotten.is_captured(str(gone.id)):
                    spool.outbox.expire(str(gone.id), now_ms)
            spool.set_meta(POSITION, f"{endpoint} {answer.next}")
        if not answer.more or answer.next == at:
            break
        at = answer.next
    return learned
