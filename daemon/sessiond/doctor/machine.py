"""The machine: limits of the kernel, room on the disk, where the roots lie, what the tools delete."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from sessiond.doctor.finding import Finding, Installation, Severity
from sessiond.doctor.inventory import scan_tools
from sessiond.sources import find_roots
from sessiond.watch.kernel import Mounts
from sessiond.watch.scan import ScanStats, scan

LITTLE = 100_000_000
"""Free bytes below which a disk counts as full: SQLite needs room for its log too."""
LIMITS = "/proc/sys/fs/inotify"
LONG_DAYS = 300
"""A tool that keeps sessions longer than this is not mentioned."""


def machine_checks(installation: Installation) -> Iterator[Finding]:
    """Look at what the machine lets us do."""
    yield from _disk(installation)
    yield from _roots(installation)
    yield from _retention(installation)


def _disk(installation: Installation) -> Iterator[Finding]:
    path = installation.directory
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    free, budget = found.f_bavail * found.f_frsize, installation.loaded.config.outbox.max_bytes
    if free < LITTLE:
        what = f"{free // 1_000_000} MB free in {path}: capturing stops when it is full"
        yield Finding(
            check="disk", severity=Severity.ERROR, what=what, fix="make room, or set state_dir to another disk"
        )
    elif free < budget:
        what = f"{free // 1_000_000} MB free in {path}, less than the outbox may take ({budget // 1_000_000} MB)"
        yield Finding(check="disk", severity=Severity.INFO, what=what, fix="make room, or lower outbox.max_bytes")
    else:
        yield Finding(check="disk", severity=Severity.OK, what=f"{free / 1e9:.1f} GB free")


def _roots(installation: Installation) -> Iterator[Finding]:
    mounts, remote, stats = Mounts(), [], ScanStats()
    kind = mounts.remote(os.path.realpath(installation.directory))
    if kind:
        what = f"the state lies on a network filesystem ({kind}), where SQLite can be damaged"
        yield Finding(check="state", severity=Severity.ERROR, what=what, fix="set state_dir to a local disk")
    for _, root in find_roots(installation.loaded.config, installation.environ):
        if not os.path.isdir(root.path):
            continue
        for _ in scan(root, stats=stats):
            pass  # only the census is wanted
        kind = mounts.remote(os.path.realpath(root.path))
        if kind:
            remote.append(f"{root.path} ({kind})")
    for path in stats.unreadable:
        yield Finding(check="roots", severity=Severity.ERROR, what=f"{path} can't be read", fix=f"chmod u+rx {path}")
    if remote:
        what = f"on a network filesystem, which tells no changes, so looked at now and then: {', '.join(remote)}"
        yield Finding(check="roots", severity=Severity.INFO, what=what)
    elif not stats.unreadable:
        number = len(stats.directories)
        what = f"{number} {'directory' if number == 1 else 'directories'} to watch"
        yield Finding(check="roots", severity=Severity.OK, what=what)
    if sys.platform == "linux":
        yield from _inotify(len(stats.directories))


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
            what=f"fs.inotify.{name} is {limit}; other programs use them too, and what is not watched is polled",
            fix=f"echo fs.inotify.{name}={max(524288, least) if 'watches' in name else 1024}"
            " | sudo tee /etc/sysctl.d/60-inotify.conf && sudo sysctl --system",
        )


def _retention(installation: Installation) -> Iterator[Finding]:
    for found in scan_tools(installation.loaded.config, installation.environ, time.time_ns() // 1_000_000):
        if found.days is None or found.days > LONG_DAYS:
            continue
        soon = f"; {found.due} of {found.sessions} within a week" if found.due else ""
        what = f"{found.tool} deletes sessions after {found.days} days{soon}; what was captured stays"
        yield Finding(check="clean-up", severity=Severity.INFO, what=what, fix=found.hint)
