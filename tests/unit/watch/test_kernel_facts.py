"""What the kernel reports about mounts, watches and limits."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

import pytest

from sessiond.watch import kernel
from sessiond.watch.kernel import Mounts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify and /proc are Linux's")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return the path of a table of mounts."""
    return tmp_path / "mountinfo"


def test_the_nearest_mount_decides(table: Path) -> None:
    """The deepest of nested mounts counts, and the later of two at one point. Paths are compared by whole names."""
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "2 1 0:50 / /home rw,relatime shared:1 master:2 - nfs server:/home rw\n"
        "3 2 0:51 / /home/ada/local rw - ext4 /dev/sdb1 rw\n"
        "4 1 0:52 / /twice rw - ext4 /dev/sdc1 rw\n"
        "5 1 0:53 / /twice rw - fuse.sshfs host:/ rw\n"
        "6 1 0:54 / /covered rw - cifs //host/share rw\n"
        "7 1 0:55 / /covered rw - tmpfs tmpfs rw\n"
    )
    mounts = Mounts(str(table))
    found = {
        path: mounts.remote(path)
        for path in ("/", "/srv", "/home", "/home/ada", "/homestead", "/home/ada/local/x", "/twice/x", "/covered/x")
    }
    assert found == {
        "/": None,
        "/srv": None,
        "/home": "nfs",
        "/home/ada": "nfs",
        "/homestead": None,
        "/home/ada/local/x": None,
        "/twice/x": "fuse.sshfs",
        "/covered/x": None,
    }
    assert mounts.remote("/home/ada") == "nfs", "asked a second time"


def test_a_root_filesystem_may_be_remote(table: Path) -> None:
    """On a diskless machine everything below "/" is remote."""
    table.write_text("1 0 0:20 / / rw - nfs4 server:/ rw\n")
    assert Mounts(str(table)).remote("/home/ada") == "nfs4"


def test_escaped_mount_points_are_read(table: Path) -> None:
    r"""Blank, tab, newline and backslash are \040, \011, \012 and \134 in the table."""
    table.write_text(
        r"1 0 0:50 / /my\040files rw - nfs4 s:/ rw"
        "\n"
        r"2 0 0:50 / /a\134b\011c rw - cifs s:/ rw"
        "\n"
    )
    mounts = Mounts(str(table))
    assert mounts.remote("/my files/x") == "nfs4"
    assert mounts.remote("/a\\b\tc/x") == "cifs"


def test_without_a_table_nothing_is_remote(table: Path) -> None:
    """macOS has no such table."""
    assert Mounts(str(table)).remote("/home") is None


def test_watched_inodes_are_those_of_this_process(tmp_path: Path) -> None:
    """The kernel lists them in /proc, in hexadecimal."""
    libc = ctypes.CDLL(None, use_errno=True)
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    for directory in (one, two, other):
        directory.mkdir()
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    try:
        for directory in (one, two):
            assert libc.inotify_add_watch(descriptor, os.fsencode(directory), 2) > 0
        inodes = kernel.watched_inodes()
    finally:
        os.close(descriptor)
    assert inodes is not None
    assert {one.stat().st_ino, two.stat().st_ino} <= inodes
    assert other.stat().st_ino not in inodes


def test_each_refusal_names_its_limit() -> None:
    """ENOSPC is about watches, EMFILE and ENFILE about instances; any other error is quoted."""
    for number, what in ((errno.ENOSPC, "watches"), (errno.EMFILE, "instances"), (errno.ENFILE, "instances")):
        detail, hint = kernel.limit(OSError(number, os.strerror(number)))
        setting, _, value = detail.removesuffix(", all in use").partition(" is ")
        assert setting in (f"fs.inotify.max_user_{what}", f"user.max_inotify_{what}")
        assert hint.startswith(f"sudo sysctl {setting}=")
        assert int(hint.partition("=")[2]) >= 2 * int(value)
    assert kernel.limit(OSError(errno.EACCES, "no")) == ("the kernel refused to watch it (no)", "")


def test_the_lower_of_two_limits_is_named() -> None:
    """A container may have a lower limit than the system; raising the other would change nothing."""

    def setting(name: str) -> int:
        return int(Path("/proc/sys", name.replace(".", "/")).read_text())

    names = ("fs.inotify.max_user_watches", "user.max_inotify_watches")
    lowest = min(names, key=setting)
    detail, hint = kernel.watch_limit()
    assert detail == f"{lowest} is {setting(lowest)}, all in use"
    assert hint == f"sudo sysctl {lowest}={max(524_288, 2 * setting(lowest))}"
