"""Run `sessiond` as if on macOS: the platform's name is set, and what only Linux has is taken away.

Calls of a kind that Linux alone knows end it, unless they are guarded; paths, the service manager and the observer are
those that the program chooses there.
"""

from __future__ import annotations

# Modules that check the platform when they are imported, and would then import modules of macOS.
import asyncio  # noqa: F401
import fcntl
import importlib.resources  # noqa: F401
import multiprocessing  # noqa: F401
import os
import resource
import select
import signal
import socket
import ssl  # noqa: F401
import subprocess  # noqa: F401
import sys
import time
import urllib.request  # noqa: F401
import uuid  # noqa: F401
from types import ModuleType

import watchdog.observers  # noqa: F401

LINUX_ALONE: dict[ModuleType, str] = {
    os: "pipe2 posix_fadvise posix_fallocate fdatasync copy_file_range memfd_create getrandom eventfd pidfd_open splice"
    " sched_getaffinity sched_setaffinity sched_setscheduler SCHED_IDLE SCHED_BATCH getresuid setresuid unshare setns"
    " getxattr setxattr listxattr removexattr O_PATH O_TMPFILE O_NOATIME O_DIRECT",
    time: "CLOCK_BOOTTIME CLOCK_TAI",
    socket: "AF_NETLINK AF_PACKET AF_VSOCK SOCK_CLOEXEC SOCK_NONBLOCK",
    select: "epoll",
    resource: "prlimit RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_SIGPENDING",
    fcntl: "F_OFD_SETLK F_OFD_SETLKW F_OFD_GETLK F_ADD_SEALS F_NOTIFY F_SETPIPE_SZ",
    signal: "sigtimedwait sigwaitinfo SIGRTMIN SIGRTMAX SIGPWR SIGPOLL SIGCLD SIGSTKFLT",
}

for module, names in LINUX_ALONE.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "darwin"

from sessiond.cli import main  # noqa: E402 - after all that

sys.argv[0] = "sessiond"
sys.exit(main())
