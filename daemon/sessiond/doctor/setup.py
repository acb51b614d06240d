"""Checks of the installation: permissions, the spool, the service, other installations."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator

from sessiond import service, spool
from sessiond.clock import now_ms
from sessiond.doctor.finding import Finding, Installation, Severity
from sessiond.errors import ServiceError, SpoolDamaged, StateError
from sessiond.spool import damaged
from sessiond.spool.forgotten import Erasures, count_erasures
from sessiond.spool.health import read_copies
from sessiond.spool.stats import Totals
from sessiond.state import ARCHIVE, archive_files, has_archive
from sessiond.text import count


def setup_checks(installation: Installation) -> Iterator[Finding]:
    """Check the files and the service of sessiond."""
    yield from _config(installation)
    yield from _private(installation)
    yield from _spool(installation)
    yield from _service(installation)
    yield from _installations(installation)


def _config(installation: Installation) -> Iterator[Finding]:
    loaded = installation.loaded
    for problem in loaded.problems:
        yield Finding(check="config", severity=Severity.ERROR, what=str(problem), fix=problem.hint)
    for warning in loaded.warnings:
        yield Finding(check="config", severity=Severity.INFO, what=warning)
    if not loaded.warnings and not loaded.problems:
        files = ", ".join(loaded.files) or "no file, all values are defaults"
        yield Finding(check="config", severity=Severity.OK, what=files)


def _private(installation: Installation) -> Iterator[Finding]:
    """Check that only the user can read transcripts and the token."""
    named = [("state", installation.directory, 0o700), ("token", installation.loaded.config.endpoint.token_file, 0o600)]
    for check, path, mode in named:
        if not path or not os.path.exists(path):
            continue
        found = os.stat(path)
        if found.st_uid != os.geteuid():
            fix = "use one that you own"
            yield Finding(check=check, severity=Severity.ERROR, what=f"{path} belongs to another user", fix=fix)
        elif stat.S_IMODE(found.st_mode) & ~mode:
            yield Finding(
                check=check,
                severity=Severity.ERROR,
                what=f"other users may read {path} (mode {stat.S_IMODE(found.st_mode):04o})",
                fix=f"chmod {mode:o} {path}",
                repair="chmod",
                path=path,
                mode=mode,
            )
        else:
            yield Finding(check=check, severity=Severity.OK, what=f"only you can read {path}")


def _spool(installation: Installation) -> Iterator[Finding]:
    path = os.path.join(installation.directory, spool.NAME)
    kept = damaged.damaged_spools(installation.directory) if os.path.isdir(installation.directory) else []
    if kept:
        what = f"{len(kept)} damaged spools were set aside: {', '.join(kept)}"
        newest = damaged.KEPT
        fix = f"delete them once `sessiond status` shows nothing lost; the oldest and the newest {newest} are kept"
        yield Finding(check="spool", severity=Severity.INFO, what=what, fix=fix)
    if not os.path.exists(path):
        yield Finding(check="spool", severity=Severity.INFO, what="nothing has been captured yet", fix="sessiond run")
        return
    try:
        damaged.check(installation.directory)
    except SpoolDamaged as error:
        fix = "restart sessiond: it sets the spool aside and rebuilds it from the tools' files and the endpoint"
        yield Finding(check="spool", severity=Severity.ERROR, what=str(error), fix=fix)
    except StateError as error:
        yield Finding(check="spool", severity=Severity.ERROR, what=str(error), fix=error.hint)
    else:
        yield Finding(check="spool", severity=Severity.OK, what=f"{path} is intact")
        yield from _copies(installation)
        yield from _safety(installation)


def _copies(installation: Installation) -> Iterator[Finding]:
    """Check whether two machines or processes use copies of one state directory."""
    opened = spool.Spool(installation.directory, readonly=True)
    try:
        copies = read_copies(opened)
    finally:
        opened.close()
    fix = "stop one of the two; to keep both, run `sessiond sync` in one copy, stop it, and remove its device.toml"
    times = copies.diverged(now_ms())
    if times > 1:
        what = f"another running sessiond pushes as this device ({times} times today): the state directory was copied"
        yield Finding(check="copies", severity=Severity.ERROR, what=what, fix=fix)
    elif copies.moved_from:
        what = f"the state directory was used on {copies.moved_from} before; a sessiond that still runs there"
        yield Finding(check="copies", severity=Severity.INFO, what=f"{what} would push as this device", fix=fix)


def _erasures(erasures: Erasures, where: str) -> Iterator[Finding]:
    """Check that what the user erased is erased everywhere, and what the endpoint keeps of excluded projects."""
    if erasures.waiting:
        what = f"{count(erasures.waiting, 'session')} still to be erased at {where}"
        reason = f": {erasures.problem}" if erasures.problem else ""
        severity = Severity.ERROR if erasures.problem else Severity.INFO
        fix = "sessiond keeps trying while it runs; `sessiond queue` shows them"
        yield Finding(check="erasure", severity=severity, what=what + reason, fix=fix)
    if erasures.kept:
        what = f"sessions erased at {where}, but not from this machine, and kept here for 30 days: {erasures.kept}"
        fix = "`sessiond queue` lists them; erase one: sessiond forget ID; push it again: sessiond queue retry ID"
        yield Finding(check="erasure", severity=Severity.ERROR, what=what, fix=fix)
    if erasures.excluded:
        what = f"{where} still has {count(erasures.excluded, 'session')} of excluded projects"
        fix = "erase them there: sessiond forget --excluded"
        yield Finding(check="erasure", severity=Severity.INFO, what=what, fix=fix)


def _safety(installation: Installation) -> Iterator[Finding]:
    """Check that all captured sessions are safe at the configured endpoint, and the state of the archive."""
    url = installation.loaded.config.endpoint.url
    opened = spool.Spool(installation.directory, readonly=True)
    try:
        with opened.snapshot():
            totals = opened.stats.totals(url)
            erasures = count_erasures(opened.connection, archive=has_archive(installation.directory))
    finally:
        opened.close()
    where = "the endpoint" if url else "the archive"
    yield from _erasures(erasures if url else erasures.replace(endpoint=0), where)
    if totals.lost:
        what = f"bytes are lost of {totals.lost} of {totals.captured} sessions"
        fix = "`sessiond queue` lists them; restore the tool's files, or accept the loss: `sessiond queue drop ID`"
        yield Finding(check="safety", severity=Severity.ERROR, what=what, fix=fix)
    elif not totals.settled:
        open_ones = totals.captured - totals.acknowledged - totals.dropped - totals.expired
        what = f"not yet safe at {where}: {open_ones} of {totals.captured} sessions"
        yield Finding(check="safety", severity=Severity.INFO, what=what, fix="sessiond sync")
    else:
        dropped = f", without what you dropped of {totals.dropped}" if totals.dropped else ""
        dropped += f", but {totals.expired} that it keeps no longer" if totals.expired else ""
        what = f"{where} has every captured session ({totals.captured}){dropped}"
        yield Finding(check="safety", severity=Severity.OK, what=what)
    if url and has_archive(installation.directory):
        yield _archive(installation, totals)


def _archive(installation: Installation, totals: Totals) -> Finding:
    """Check whether the built-in archive can be removed once another endpoint is configured."""
    path, archive = os.path.join(installation.directory, ARCHIVE), totals.archive
    if archive.problem is not None:
        fix = "restore it from a backup; then `sessiond queue retry`"
        return Finding(check="archive", severity=Severity.ERROR, what=archive.problem, fix=fix)
    if archive.refused:
        what = f"the endpoint refuses {archive.refused} of its sessions: {archive.reason}; keep {path}"
        return Finding(check="archive", severity=Severity.ERROR, what=what, fix="`sessiond queue retry` tries again")
    if archive.pending or not archive.listed:
        done = f"{archive.sessions - archive.pending} of {archive.sessions}" if archive.listed else "none"
        what = f"{done} of its sessions copied to the endpoint yet: keep {path}"
        return Finding(check="archive", severity=Severity.INFO, what=what, fix="sessiond sync")
    if not totals.settled:
        # A session that the endpoint refuses or has lost may have bytes in the archive that its list does not name.
        what = f"its sessions are at the endpoint, but not all captured sessions are safe there: keep {path}"
        return Finding(check="archive", severity=Severity.INFO, what=what, fix="sessiond sync")
    if archive.files != archive_files(installation.directory):
        # Another process wrote to it, or the daemon has not closed it yet.
        what = f"it changed after its sessions were copied: keep {path}"
        return Finding(check="archive", severity=Severity.INFO, what=what, fix="restart the daemon, which copies it")
    what = f"the endpoint has every session of the built-in archive ({archive.sessions}): it can be removed"
    return Finding(check="archive", severity=Severity.INFO, what=what, fix=f"rm -r {path}")


def _service(installation: Installation) -> Iterator[Finding]:
    try:
        manager = service.find(installation.environ)
        if not manager.installed():
            what = f"not installed with {manager.name}: sessiond runs only in a terminal"
            yield Finding(check="service", severity=Severity.INFO, what=what, fix="sessiond install")
            return
        drift = manager.drift(service.make_plan(installation.environ, installation.directory, installation.named))
        if drift is not None:
            fix = "`sessiond install` updates it and restarts the service"
            yield Finding(check="service", severity=Severity.INFO, what=drift, fix=fix, repair="install")
        manager.check()
        pid = manager.pid()
        if pid is None:
            yield Finding(
                check="service", severity=Severity.ERROR, what="installed but not running", fix="sessiond start"
            )
        elif drift is None:
            yield Finding(check="service", severity=Severity.OK, what=f"runs under {manager.name} (pid {pid})")
        if manager.lingers() is False:
            fix = "loginctl enable-linger"
            yield Finding(check="service", severity=Severity.INFO, what="stops when you log out", fix=fix)
    except ServiceError as error:
        yield Finding(check="service", severity=Severity.INFO, what=str(error), fix=error.hint)


def _installations(installation: Installation) -> Iterator[Finding]:
    found: dict[str, str] = {}
    for folder in installation.environ.get("PATH", "").split(os.pathsep):
        path = shutil.which("sessiond", path=folder) if folder else None
        if path is not None:
            found.setdefault(os.path.realpath(path), path)
    if len(found) > 1:
        what = f"{len(found)} installations in PATH: {', '.join(found.values())}"
        fix = "remove all but one: an older one can't use the spool after a newer one has upgraded it"
        yield Finding(check="installation", severity=Severity.INFO, what=what, fix=fix)
