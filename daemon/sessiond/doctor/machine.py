"""The machine: limits of the kernel, room on the disk, where the roots lie, what the tools delete."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from sessiond.doctor.finding import Finding, Grade, Patient
from sessiond.doctor.survey import survey
from sessiond.sources import find_roots
from sessiond.watch.kernel import Mounts
from sessiond.watch.scan import Census, scan

LITTLE = 100_000_000
"""Free bytes below which a disk counts as full: SQLite needs room for its log too."""
LIMITS = "/proc/sys/fs/inotify"
LONG_DAYS = 300
"""A tool that keeps sessions longer than this is not mentioned."""


def machine_checks(patient: Patient) -> Iterator[Finding]:
    """Look at what the machine lets us do."""
    yield from _disk(patient)
    yield from _roots(patient)
    yield from _retention(patient)


def _disk(patient: Patient) -> Iterator[Finding]:
    path = patient.directory
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    free, budget = found.f_bavail * found.f_frsize, patient.loaded.config.outbox.max_bytes
    if free < LITTLE:
        what = f"{free // 1_000_000} MB free in {path}: capturing stops when it is full"
        yield Finding(check="disk", grade=Grade.WRONG, what=what, fix="make room, or set state_dir to another disk")
    elif free < budget:
        what = f"{free // 1_000_000} MB free in {path}, less than the outbox may take ({budget // 1_000_000} MB)"
        yield Finding(check="disk", grade=Grade.NOTE, what=what, fix="make room, or lower outbox.max_bytes")
    else:
        yield Finding(check="disk", grade=Grade.FINE, what=f"{free / 1e9:.1f} GB free")


def _roots(patient: Patient) -> Iterator[Finding]:
    mounts, remote, census = Mounts(), [], Census()
    kind = mounts.remote(os.path.realpath(patient.directory))
    if kind:
        what = f"the state lies on a network filesystem ({kind}), where SQLite can be damaged"
        yield Finding(check="state", grade=Grade.WRONG, what=what, fix="set state_dir to a local disk")
    for _, root in find_roots(patient.loaded.config, patient.environ):
        if not os.path.isdir(root.path):
            continue
        for _ in scan(root, census=census):
            pass  # only the census is wanted
        kind = mounts.remote(os.path.realpath(root.path))
        if kind:
            remote.append(f"{root.path} ({kind})")
    for path in census.unreadable:
        yield Finding(check="roots", grade=Grade.WRONG, what=f"{path} can't be read", fix=f"chmod u+rx {path}")
    if remote:
        what = f"on a network filesystem, which tells no changes, so looked at now and then: {', '.join(remote)}"
        yield Finding(check="roots", grade=Grade.NOTE, what=what)
    elif not census.unreadable:
        number = len(census.directories)
        what = f"{number} {'directory' if number == 1 else 'directories'} to watch"
        yield Finding(check="roots", grade=Grade.FINE, what=what)
    if sys.platform == "linux":
        yield from _inotify(len(census.directories))


def _inotify(needed: int) -> Iterator[Finding]:
    for name, least in (("max_user_watches", needed * 2 + 1000), ("max_user_instances", 32)):
        try:
            with open(f"{LIMITS}/{name}") as file:
                limit = int(file.read())
        except (OSError, ValueError):
            continue
        if limit >= least:
            yield Finding(check="inotify", grade=Grade.FINE, what=f"{name} is {limit}")
            continue
        yield Finding(
            check="inotify",
            grade=Grade.WRONG if limit < needed else Grade.NOTE,
            what=f"fs.inotify.{name} is {limit}; other programs use them too, and what is not watched is polled",
            fix=f"echo fs.inotify.{name}={max(524288, least) if 'watches' in name else 1024}"
            " | sudo tee /etc/sysctl.d/60-inotify.conf && sudo sysctl --system",
        )


def _retention(patient: Patient) -> Iterator[Finding]:
    for found in survey(patient.loaded.config, patient.environ, time.time_ns() // 1_000_000):
        if found.days is None or found.days > LONG_DAYS:
            continue
        soon = f"; {found.due} of {found.sessions} within a week" if found.due else ""
        what = f"{found.tool} deletes sessions after {found.days} days{soon}; what was captured stays"
        yield Finding(check="clean-up", grade=Grade.NOTE, what=what, fix=found.hint)
