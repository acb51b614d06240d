"""Advice: what is wrong and what to do about it, most serious first."""

from __future__ import annotations

from collections.abc import Iterator

from sessiond.pause import until
from sessiond.spool.forgotten import REASON as ERASED
from sessiond.spool.health import CopiesHealth
from sessiond.spool.stats import Totals
from sessiond.status.model import Advice, Running, SpoolState, Status
from sessiond.text import count

NEARLY_FULL = 0.8
"""The share of the archive's limit from which on `status` warns. Transcripts are not taken from 15/16 on."""
RECENT_MS = 7 * 86_400_000
"""Milliseconds for which a rebuilt spool is reported."""

COPIED = 2
"""Foreign pushes in a day that mean a copied state directory; a single one means a restored backup."""


def advise(status: Status) -> list[Advice]:
    """Return the advice: problems that stop or degrade sessiond first, then hints."""
    found = [
        *_config(status),
        *_spool(status),
        *_daemon(status),
        *_copies(status),
        *_paused(status),
        *_endpoint(status),
        *_sessions(status),
        *_unreadable(status),
        *_archive(status),
        *_erasures(status),
        *_unsaved(status),
        *_interrupted(status),
    ]
    found += [*_roots(status), *_formats(status), *_unrecognized(status), *_scanner(status)]
    return sorted(found, key=lambda each: not each.degraded)


def _scanner(status: Status) -> Iterator[Advice]:
    if status.scanner == "re":
        yield Advice(
            what="secrets are searched for without hyperscan, about a hundred times slower",
            do="install the package hyperscan next to sessiond, if it is available for this machine",
            degraded=False,
        )


def _config(status: Status) -> Iterator[Advice]:
    config, running = status.config, status.daemon.state is Running.RUNNING
    if config.error is not None:
        kept = "; the daemon keeps the last valid one" if running else ""
        yield Advice(what=f"the configuration is not valid: {config.error}{kept}", do=config.hint)
    elif config.refused is not None:
        yield Advice(
            what=f"the daemon rejected an edit of the configuration: {config.refused}",
            do="it keeps the last valid one and reads the next edit by itself",
        )


def _spool(status: Status) -> Iterator[Advice]:
    running = status.daemon.state is Running.RUNNING
    match status.spool.state:
        case SpoolState.DAMAGED:
            yield Advice(
                what=status.spool.reason or "the spool is damaged",
                do=f"{'restart' if running else 'start'} sessiond: it sets the spool aside and rebuilds it"
                " from the tools' files and the endpoint",
            )
        case SpoolState.TOO_NEW | SpoolState.UNREADABLE:
            do = status.spool.hint or f"check {status.state_dir}, then run `sessiond status` again"
            yield Advice(what=status.spool.reason or "the spool can't be read", do=do)
        case SpoolState.MISSING if running:
            yield Advice(
                what="the spool was removed while the daemon is running", do="restart sessiond: it rebuilds the spool"
            )
    rebuilt = status.spool.rebuilt_ms
    if rebuilt is not None and status.now_ms - rebuilt < RECENT_MS:
        yield Advice(
            what="the spool was damaged and has been rebuilt",
            do=f"nothing to do; the old one is in {status.state_dir} (spool.db.damaged-...)",
            degraded=False,
        )


def _copies(status: Status) -> Iterator[Advice]:
    copies = CopiesHealth(diverged_ms=status.spool.diverged_ms, moved_from=status.spool.moved_from)
    if copies.diverged(status.now_ms) >= COPIED:
        before = f" (it was used on {copies.moved_from} before)" if copies.moved_from else ""
        yield Advice(
            what=f"another running sessiond pushes as this device: {status.state_dir} was copied{before}",
            do="stop one of the two; to keep both, run `sessiond sync` in one copy, stop it, and remove its"
            " device.toml",
        )


def _daemon(status: Status) -> Iterator[Advice]:
    if status.daemon.stopped is not None:
        yield Advice(
            what=f"nothing is captured: {status.daemon.stopped}",
            do="free some disk space; sessiond continues by itself within ten seconds",
        )
    match status.daemon.state:
        case Running.NEVER:
            yield Advice(what="sessiond has never run here", do="set it up: sessiond init; or start it: sessiond run")
        case Running.STOPPED:
            yield Advice(
                what="sessiond is not running: new sessions are not captured",
                do="start it: sessiond run, or sessiond start if the service is installed",
            )
        case Running.DIED:
            yield Advice(
                what="sessiond ended unexpectedly (killed, crashed, or a power cut)",
                do="captured sessions are not lost; start it again: sessiond run, or sessiond start if the service is"
                " installed",
            )


def _paused(status: Status) -> Iterator[Advice]:
    paused = status.paused
    if paused.pushing is not None:
        what = f"pushing is paused {until(paused.pushing)}"
        yield Advice(what=what, do="`sessiond unpause` ends it; capturing continues", degraded=False)
    for tool, end in sorted(paused.sources.items()):
        do = f"`sessiond unpause --tool {tool}` ends it"
        yield Advice(what=f"{tool} is paused {until(end)}: its sessions are not captured", do=do, degraded=False)


def _endpoint(status: Status) -> Iterator[Advice]:
    endpoint = status.endpoint
    if endpoint.failing_since_ms is None:
        return
    reason = endpoint.reason or "the endpoint does not accept pushes"
    if endpoint.kind == "refused":
        yield Advice(what=reason, do=endpoint.hint or "check the token: SESSIOND_TOKEN or endpoint.token_file")
    else:
        running = status.daemon.state is Running.RUNNING
        again = "retried automatically; `sessiond sync` retries now" if running else "`sessiond sync` tries again"
        yield Advice(what=reason, do=endpoint.hint or again)


def _sessions(status: Status) -> Iterator[Advice]:
    if status.outbox is not None and status.outbox.parked:
        reason = status.outbox.parked_reason
        # What was erased at the endpoint has advice of its own, below.
        shown = "`sessiond queue` shows the reason" if reason in (None, ERASED) else f"the reason: {reason}"
        yield Advice(
            what=f"{count(status.outbox.parked, 'item')} parked: the endpoint refuses them",
            do=f"{shown}; `sessiond queue retry` tries again",
        )
    troubled = sum(tool.count.troubled for tool in status.tools)
    if troubled:
        # The path comes last: where a screen has to shorten this, it keeps the end, and so the file's name.
        first = f": {status.troubles[0].reason}: {status.troubles[0].path}" if status.troubles else ""
        yield Advice(what=f"{count(troubled, 'file')} can't be read{first}", do="`sessiond sources` lists them")
    totals = status.totals
    if totals is not None and totals.lost:
        yield _lost(status, totals)
    if totals is not None and totals.archive.refused:
        yield Advice(
            what=f"the endpoint refuses {count(totals.archive.refused, 'session')} of the built-in archive:"
            f" {totals.archive.reason}",
            do="`sessiond sync` tries again; the archive keeps them",
        )
    if totals is not None and totals.unprotected:
        yield Advice(
            what=f"{count(totals.unprotected, 'transcript')} not captured yet, and no hard link to the file is"
            " possible: it is lost if the tool deletes the file",
            do="raise outbox.max_bytes, or put state_dir on the disk of the tools' files",
            degraded=False,
        )


def _unreadable(status: Status) -> Iterator[Advice]:
    if status.unreadable:
        yield Advice(
            what=f"the endpoint's copy of {count(status.unreadable, 'session')} can't be checked, because the token"
            " can't read there and the tool deleted its files",
            do="configure a token that may push and read; until then these sessions count as waiting",
        )


def _archive(status: Status) -> Iterator[Advice]:
    limit, used = status.archive_max_bytes, status.archive_bytes
    if limit and used >= limit * NEARLY_FULL:
        yield Advice(
            what=f"the archive on this machine is {used * 100 // limit} % full (archive.max_bytes)",
            do="raise the limit, configure an endpoint, or erase old sessions: sessiond forget --before 90d",
            degraded=False,
        )
    if status.archive_old and status.archive_age is not None:
        days = max(round(status.archive_age / 86_400), 1)
        yield Advice(
            what=f"{count(status.archive_old, 'session')} older than archive.keep"
            f" {'is' if status.archive_old == 1 else 'are'} kept: no other endpoint has them"
            + (f", {status.archive_old_only_here} not even their tools" if status.archive_old_only_here else ""),
            do=f"configure an endpoint, which gets them first, or erase them: sessiond forget --before {days}d",
            degraded=False,
        )


def _erasures(status: Status) -> Iterator[Advice]:
    erasures = status.erasures
    if erasures.problem is not None:
        yield Advice(
            what=f"{count(erasures.waiting, 'session')} that you erased can't be erased at the"
            f" endpoint yet: {erasures.problem}",
            do="sessiond keeps trying; `sessiond queue` shows them",
        )
    if erasures.kept:
        yield Advice(
            what=f"{count(erasures.kept, 'session')} erased at the endpoint, but not from this machine; what only this"
            " machine has is kept for 30 days",
            do="erase it now: sessiond forget ID; push it again: sessiond queue retry ID; `sessiond queue` lists them",
        )
    if erasures.excluded:
        yield Advice(
            what=f"the endpoint still has {count(erasures.excluded, 'session')} of excluded projects",
            do="erase them there: sessiond forget --excluded",
            degraded=False,
        )


def _unsaved(status: Status) -> Iterator[Advice]:
    """Yield one line for each tool and reason, however many processes there are."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for each in status.unsaved:
        groups.setdefault((each.tool, each.reason, each.fix), []).append(each.pid)
    for (tool, reason, fix), pids in groups.items():
        named = f"process {pids[0]}" + (f" and {len(pids) - 1} more" if len(pids) > 1 else "")
        yield Advice(what=f"{tool} ({named}) saves no transcript: {reason}", do=fix, degraded=False)


def _interrupted(status: Status) -> Iterator[Advice]:
    if status.restore_interrupted:
        yield Advice(
            what="a restore was interrupted: the files of a session may be incomplete",
            do="`sessiond resume` completes it, or removes what it has created",
            degraded=False,
        )


def _lost(status: Status, totals: Totals) -> Advice:
    """Return the advice that names the lost sessions and says how to restore them."""
    named = ", ".join(f"{each.session[:8]} ({each.tool})" for each in status.lost)
    more = f" and {totals.lost - len(status.lost)} more" if totals.lost > len(status.lost) else ""
    return Advice(
        what=f"{count(totals.lost, 'session')} incomplete: {totals.lost_bytes} bytes are neither in the tool's file"
        f" nor at the endpoint: {named}{more}",
        do="restore the tool's files or the earlier endpoint to push them again; `sessiond queue` lists them,"
        " `sessiond queue drop ID` accepts the loss",
    )


def _roots(status: Status) -> Iterator[Advice]:
    if status.daemon.state is not Running.RUNNING:
        return
    for root in (root for tool in status.tools for root in tool.roots):
        if root.how == "unreadable":
            yield Advice(what=f"{root.path} can't be read: {root.detail}", do=root.hint or None)
        elif root.how == "polled":
            yield Advice(what=f"{root.path} is polled: {root.detail}", do=root.hint or None, degraded=False)


def _formats(status: Status) -> Iterator[Advice]:
    for tool in status.tools:
        unknown = tool.count.unknown
        if unknown:
            some = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
            yield Advice(
                what=f"{tool.count.tool}: {count(len(unknown), 'unknown record type')} ({some}),"
                " messages may be undercounted",
                do="upgrade sessiond; the transcripts are complete",
                degraded=False,
            )


def _unrecognized(status: Status) -> Iterator[Advice]:
    found = {tool.count.tool: tool.unrecognized for tool in status.tools if tool.unrecognized}
    if found:
        tools = ", ".join(f"{tool} {number}" for tool, number in sorted(found.items()))
        total = sum(found.values())
        yield Advice(
            what=f"{count(total, 'file')} {'looks like a session' if total == 1 else 'look like sessions'} but"
            f" {'is' if total == 1 else 'are'} not captured: {tools}",
            do="`sessiond sources` lists them; upgrade sessiond, or report a tool whose new sessions are listed",
            degraded=False,
        )
