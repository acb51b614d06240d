"""Facts from the kernel about watching: limits, watched directories, mounts, time asleep."""

from __future__ import annotations

import errno
import os
import re
import time

MOUNTS = "/proc/self/mountinfo"

_REMOTE = frozenset(
    {"9p", "afs", "ceph", "cifs", "coda", "davfs", "drvfs", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2"}
    | {"prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "fuse.ceph", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs"}
    | {"fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse"}
)
"""Filesystems that other machines change without an event here."""

_INODE = re.compile(r"^inotify wd:\S+ ino:([0-9a-f]+) ", re.MULTILINE)
_ENOUGH_WATCHES = 524_288
_ENOUGH_INSTANCES = 1_024


class Mounts:
    """The mounted filesystems. `table` is a file like /proc/self/mountinfo (proc(5)); it need not exist."""

    def __init__(self, table: str = MOUNTS) -> None:
        try:
            with open(table, encoding="utf-8", errors="surrogateescape") as lines:
                rows = [line.split() for line in lines]
        except OSError:
            rows = []
        self._points = [(_unescaped(row[4]), row[row.index("-") + 1]) for row in rows]
        self._kinds: dict[str, str | None] = {}

    def remote(self, path: str) -> str | None:
        """Return the filesystem type of an existing resolved path if its events are incomplete, else None."""
        if path not in self._kinds:
            self._kinds[path] = self._remote(path)
        return self._kinds[path]

    def _remote(self, path: str) -> str | None:
        longest, kind = "", None
        for point, filesystem in self._points:
            # A later mount at the same point covers the earlier one.
            if len(point) >= len(longest) and (path == point or path.startswith(point.rstrip("/") + "/")):
                longest, kind = point, filesystem
        return kind if kind in _REMOTE else None


def _unescaped(point: str) -> str:
    """Undo mountinfo's octal escapes of blank, tab, newline and backslash."""
    if "\\" not in point:
        return point
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)


def watched_inodes() -> frozenset[int] | None:
    """Return the inodes that this process watches by inotify; None if the kernel does not report it."""
    found: set[int] = set()
    try:
        for descriptor in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{descriptor}") != "anon_inode:inotify":
                    continue
                with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:
                    found.update(int(inode, 16) for inode in _INODE.findall(lines.read()))
            except OSError:
                continue  # it was closed since it was listed, as the descriptor of the listing itself is
    except OSError:  # no /proc, or no descriptor left
        return None
    return frozenset(found) or None


def limit(error: OSError) -> tuple[str, str]:
    """Return which limit an error of inotify is about, and what to do: (detail, hint)."""
    if error.errno == errno.ENOSPC:
        return watch_limit()
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return _limit("instances", _ENOUGH_INSTANCES)
    return f"the kernel refused to watch it ({error.strerror})", ""


def watch_limit() -> tuple[str, str]:
    """Return the limit of watches, and what to do: (detail, hint)."""
    return _limit("watches", _ENOUGH_WATCHES)


def _limit(what: str, enough: int) -> tuple[str, str]:
    """Return the limit in force and its setting: a user namespace (a container) may have a lower limit of its own."""
    names = (f"fs.inotify.max_user_{what}", f"user.max_inotify_{what}")
    settings = [(value, name) for name in names if (value := _setting(name)) is not None]
    if not settings:
        return f"no more inotify {what}", ""
    value, name = min(settings, key=lambda setting: setting[0])
    return f"{name} is {value}, all in use", f"sudo sysctl {name}={max(enough, 2 * value)}"


def _setting(name: str) -> int | None:
    try:
        with open("/proc/sys/" + name.replace(".", "/"), encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def asleep() -> float:
    """Return how long the machine has slept, in seconds from an arbitrary start; only differences are meaningful.

    If the kernel has no such clock, setting the wall clock counts too. That costs a scan, and nothing else.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return (time.time() if clock is None else time.clock_gettime(clock)) - time.monotonic()
