"""Checks of the machine: kernel limits, disk space, file systems, retention of the tools."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

from sessiond.clock import now_ms
from sessiond.doctor.finding import Finding, Installation, Severity
from sessiond.doctor.inventory import scan_tools
from sessiond.sources import find_further_homes, find_roots
from sessiond.unsaved import find_unsaved
from sessiond.watch.kernel import Mounts
from sessiond.watch.scan import ScanStats, scan

LOW_SPACE = 100_000_000
"""Free bytes below which a disk counts as full: SQLite needs space for its log too."""
LIMITS = "/proc/sys/fs/inotify"
LONG_DAYS = 300
"""Tools that keep sessions longer than this are not reported."""


def machine_checks(installation: Installation) -> Iterator[Finding]:
    """Check limits and resources of the machine."""
    yield from _disk(installation)
    yield from _roots(installation)
    yield from _further_homes(installation)
    yield from _retention(installation)
    yield from _saving(installation)


def _disk(installation: Installation) -> Iterator[Finding]:
    path = installation.directory
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    free, budget = found.f_bavail * found.f_frsize, installation.loaded.config.outbox.max_bytes
    if free < LOW_SPACE:
        what = f"{free // 1_000_000} MB free in {path}: capturing stops when the disk is full"
        yield Finding(
            check="disk",
            severity=Severity.ERROR,
            what=what,
            fix="free some disk space, or set state_dir to another disk",
        )
    elif free < budget:
        what = f"{free // 1_000_000} MB free in {path}, less than the outbox may take ({budget // 1_000_000} MB)"
        yield Finding(
            check="disk", severity=Severity.INFO, what=what, fix="free some disk space, or lower outbox.max_bytes"
        )
    else:
        yield Finding(check="disk", severity=Severity.OK, what=f"{free / 1e9:.1f} GB free")


def _roots(installation: Installation) -> Iterator[Finding]:
    mounts, remote, stats = Mounts(), [], ScanStats()
    kind = mounts.remote(os.path.realpath(installation.directory))
    if kind:
        what = f"the state directory is on a network file system ({kind}), where SQLite files can be damaged"
        yield Finding(check="state", severity=Severity.ERROR, what=what, fix="set state_dir to a local disk")
    for _, root in find_roots(installation.loaded.config, installation.environ):
        if not os.path.isdir(root.path):
            continue
        for _ in scan(root, stats=stats):
            pass  # only the census is needed
        kind = mounts.remote(os.path.realpath(root.path))
        if kind:
            remote.append(f"{root.path} ({kind})")
    for path in stats.unreadable:
        yield Finding(check="roots", severity=Severity.ERROR, what=f"{path} can't be read", fix=f"chmod u+rx {path}")
    if remote:
        what = f"on a network file system without change events, so scanned periodically: {', '.join(remote)}"
        yield Finding(check="roots", severity=Severity.INFO, what=what)
    elif not stats.unreadable:
        number = len(stats.directories)
        what = f"directories to watch: {number}"
        yield Finding(check="roots", severity=Severity.OK, what=what)
    if sys.platform == "linux":
        yield from _inotify(len(stats.directories))


def _further_homes(installation: Installation) -> Iterator[Finding]:
    config = installation.loaded.config
    for tool, path in find_further_homes(config, installation.environ):
        settings = config.sources.get(tool)
        roots = json.dumps([*(settings.roots if settings else ()), path])
        what = f"{path} looks like another directory of {tool}: its sessions are not captured"
        fix = f"sessiond config set sources.{tool}.roots '{roots}'"
        yield Finding(check="homes", severity=Severity.INFO, what=what, fix=fix)


def _inotify(needed: int) -> Iterator[Finding]:
    for name, least in (("max_user_watches", needed * 2 + 1000), ("max_user_instances", 32)):
        try:
            with open(f"{LIMITS}/{name}") as file:
                limit = int(file.read())
        except (OSError, ValueError):
            continue
        if limit >= least:
            yield Finding(check="inotify", severity=Severity.OK, what=f"{name} is {limit}")
            continue
        yield Finding(
            check="inotify",
            severity=Severity.ERROR if limit < needed else Severity.INFO,
            what=f"fs.inotify.{name} is {limit}; other programs use them too; directories without a watch are polled",
            fix=f"echo fs.inotify.{name}={max(524288, least) if 'watches' in name else 1024}"
            " | sudo tee /etc/sysctl.d/60-inotify.conf && sudo sysctl --system",
        )


def _retention(installation: Installation) -> Iterator[Finding]:
    for found in scan_tools(installation.loaded.config, installation.environ, now_ms()):
        if found.days is None or found.days > LONG_DAYS:
            continue
        soon = f"; {found.due} of {found.files} files within a week" if found.due else ""
        what = f"{found.tool} deletes sessions after {found.days} days{soon}; captured sessions stay"
        yield Finding(check="clean-up", severity=Severity.INFO, what=what, fix=found.hint)


def _saving(installation: Installation) -> Iterator[Finding]:
    found = find_unsaved(installation.environ, now_ms())
    for each in found:
        what = f"{each.tool} (process {each.pid}) saves no transcript, so none can be captured: {each.reason}"
        severity = Severity.INFO if each.deliberate else Severity.ERROR
        yield Finding(check="saving", severity=severity, what=what, fix=each.fix)
    if not found:
        yield Finding(
            check="saving", severity=Severity.OK, what="each running tool saves its sessions, as far as known"
        )
