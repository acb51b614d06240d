"""The contents of the spool that `status` shows, read in one transaction."""

from __future__ import annotations

import os

from sessiond import state
from sessiond.clock import now_ms
from sessiond.errors import SpoolDamaged, SpoolTooNew, StateError
from sessiond.frozen_record import FrozenRecord
from sessiond.spool import NAME, Spool, health
from sessiond.spool.archive_file import ARCHIVE_KEEP, ARCHIVE_LIMIT
from sessiond.spool.forgotten import Erasures, count_erasures
from sessiond.spool.health import CaptureHealth, ConfigHealth, EndpointHealth
from sessiond.spool.safety import BOUND, KEEP_DAYS, State, Unsafe
from sessiond.spool.sizes import SIZES, Sizes, read_sizes
from sessiond.spool.stats import ToolCount, Totals, Trouble, Waiting
from sessiond.spool.verification import RESULT, Verification, count_unreadable, read_verification
from sessiond.state import has_archive
from sessiond.status.model import SpoolState, SpoolStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

PATIENCE = 0.03
"""Seconds to wait for a locked spool; in WAL mode only a recovery blocks readers."""
TROUBLES = 3


class SpoolSnapshot(FrozenRecord):
    """The contents of the spool. If reading fails, what was not read has its default."""

    spool: SpoolStatus
    clean: bool = False
    refused: str | None = None
    taken: ConfigHealth | None = None
    capture: CaptureHealth = CaptureHealth()
    endpoint: EndpointHealth = EndpointHealth()
    bound: str | None = None
    """The endpoint that sent the acknowledgements; see spool.safety.BOUND."""
    totals: Totals | None = None
    outbox: Waiting | None = None
    erasures: Erasures = Erasures()
    verification: Verification | None = None
    unreadable: int = 0
    sizes: Sizes | None = None
    archive_max_bytes: int = 0
    keep_days: int | None = None
    archive_age: float | None = None
    """Seconds after which sessions of the built-in archive are old, while it is the endpoint; None: never."""
    archive_old: int = 0
    archive_old_only_here: int = 0
    counts: list[ToolCount] = []  # noqa: RUF012 - each has its own
    lost: list[Unsafe] = []  # noqa: RUF012
    troubles: list[Trouble] = []  # noqa: RUF012
    redactions: dict[str, int] = {}  # noqa: RUF012
    restored: int = 0
    """Restored sessions that are not captured."""
    continued: int = 0
    """Restored sessions that were captured, because this machine added to them."""

    def without_foreign_acks(self, url: str) -> Self:
        """Return it without acknowledgements that came from another endpoint than the one at `url`.

        Otherwise sessions would count as safe that the configured endpoint does not have.
        """
        if self.totals is None or self.bound == url:
            return self
        counts = [each.replace(counts=each.counts.unanswered()) for each in self.counts]
        return self.replace(totals=self.totals.unanswered(), counts=counts)


def read_snapshot(directory: str, unreadable: str | None) -> SpoolSnapshot:
    """Read as much of the spool as possible. `unreadable`: why the state directory can't be read, if so."""
    if not os.path.lexists(os.path.join(directory, NAME)):
        if unreadable is not None:
            return SpoolSnapshot(spool=SpoolStatus(state=SpoolState.UNREADABLE, reason=f"{directory}: {unreadable}"))
        return SpoolSnapshot(spool=SpoolStatus(state=SpoolState.MISSING))
    read: dict[str, Any] = {"spool": SpoolStatus(state=SpoolState.OK)}
    try:
        spool = Spool(directory, readonly=True, patience=PATIENCE)
        try:
            _fill(read, spool, archive=has_archive(directory))
            read["restored"], read["continued"] = _restored(directory, spool)
        finally:
            spool.close()
    except SpoolTooNew as error:
        read["spool"] = SpoolStatus(state=SpoolState.TOO_NEW, reason=str(error), hint=error.hint)
    except SpoolDamaged as error:
        read["spool"] = SpoolStatus(state=SpoolState.DAMAGED, reason=str(error))
    except StateError as error:
        read["spool"] = SpoolStatus(state=SpoolState.UNREADABLE, reason=str(error), hint=error.hint)
    except ValueError as error:
        reason = f"the spool has unexpected content: {error}"
        read["spool"] = SpoolStatus(state=SpoolState.UNREADABLE, reason=reason)
    return SpoolSnapshot(**read)


def _restored(directory: str, spool: Spool) -> tuple[int, int]:
    """Return how many restored sessions are not captured, and how many are."""
    found = set(state.restored_sessions(directory))
    continued = len(found.intersection(map(str, spool.stats.ids("")))) if found else 0
    return len(found) - continued, continued


def _fill(read: dict[str, Any], spool: Spool, *, archive: bool) -> None:
    """Read the members one by one, so that those before an error are kept."""
    with spool.snapshot():
        rebuilt, copies = spool.meta(health.REBUILT), health.read_copies(spool)
        read["spool"] = SpoolStatus(
            state=SpoolState.OK,
            rebuilt_ms=int(rebuilt) if rebuilt else None,
            diverged_ms=copies.diverged_ms,
            moved_from=copies.moved_from,
        )
        read["clean"] = spool.meta(health.CLEAN) is not None
        read["refused"] = spool.meta(health.CONFIG)
        read["taken"] = health.read_applied_config(spool)
        read["capture"] = health.read_capture(spool)
        read["endpoint"] = health.read_endpoint(spool)
        read["bound"] = spool.meta(BOUND)
        read["counts"] = counts = spool.stats.tools()
        read["totals"] = totals = spool.stats.totals(tools=counts)
        read["lost"] = list(spool.safety.unsafe(State.LOST, limit=TROUBLES)) if totals.lost else []
        read["outbox"] = spool.stats.waiting()
        read["erasures"] = count_erasures(spool.connection, archive=archive)
        read["sizes"] = read_sizes(spool.meta(SIZES))
        if days := spool.meta(KEEP_DAYS):
            read["keep_days"] = int(days)
        read["archive_max_bytes"] = int(spool.meta(ARCHIVE_LIMIT) or 0)
        if keep := spool.meta(ARCHIVE_KEEP):
            read["archive_age"] = float(keep)
            read["archive_old"], read["archive_old_only_here"] = spool.stats.older(now_ms() - int(float(keep) * 1000))
        read["verification"] = read_verification(spool.meta(RESULT))
        read["unreadable"] = count_unreadable(spool)
        read["redactions"] = spool.stats.redactions()
        if any(count.troubled for count in counts):
            read["troubles"] = spool.stats.troubles(TROUBLES)
