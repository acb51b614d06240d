"""Processes whose arguments and environment others read."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PATIENT = 60.0
"""Seconds to wait for a process on a busy machine."""


def start_listed(
    arguments: Sequence[str], environ: Mapping[str, str], *, stdin: int, executable: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a process and wait until the kernel lists its arguments and environment.

    `Popen` returns when the new program has been loaded. A moment later the kernel sets up its stack, and until then
    /proc/<pid>/cmdline and environ are empty. `environ` must not be empty.
    """
    process = subprocess.Popen(arguments, executable=executable, stdin=stdin, env=environ)
    end, directory = time.monotonic() + PATIENT, Path("/proc", str(process.pid))
    while not (directory.joinpath("cmdline").read_bytes() and directory.joinpath("environ").read_bytes()):
        assert time.monotonic() < end, "the kernel does not list the process"
        time.sleep(0.001)
    return process
