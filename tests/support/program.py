"""The program as a process of its own, for tests.

Imports take nine tenths of its start. So each process is a fork of one that has imported all modules already: the fork
server of `multiprocessing`. It has its own pid, files, signals and environment, and can be killed at any line. Tests of
imports, of the interpreter's own start and of programs under strace use `subprocess` instead.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection, wait
from typing import IO, Any

import pytest

import sessiond
from sessiond.daemon import archive

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(sessiond.__file__)))
"""The directory of the package, as PYTHONPATH. All of `sys.path` would have each import search the tests as well."""
TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
File = int | IO[Any] | None
"""What a standard stream is connected to, as for `subprocess.Popen`; None is the null device."""


class Program:
    """A running `sessiond`, with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        *,
        code: str = "",
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        cwd: str | None = None,
    ) -> None:
        """Start it as the leader of a session. `code` is Python that runs instead of the command."""
        self.args = ["sessiond", *words]
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        with ExitStack() as stack:
            streams = []
            for name, file in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                streams.append(stack.enter_context(Connection(self._connect(name, file))))
            arguments = (list(words), code, dict(environ), cwd or os.getcwd(), streams)
            _start_server()
            self._process = _CONTEXT.Process(target=_become, args=arguments, daemon=True)
            with _LOCK:
                self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def _connect(self, name: str, file: File) -> int:
        """Return a descriptor for the process, and keep our end of a pipe."""
        if file is None or file == subprocess.DEVNULL:
            return os.open(os.devnull, os.O_RDWR)
        if file != subprocess.PIPE:
            return os.dup(file if isinstance(file, int) else file.fileno())
        reader, writer = os.pipe()
        if name == "stdin":
            self.stdin = os.fdopen(writer, "wb", buffering=0)
            return reader
        setattr(self, name, os.fdopen(reader, "rb", buffering=0))
        return writer

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        with _LOCK:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit code. Raises: subprocess.TimeoutExpired."""
        wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run(
    words: Sequence[str],
    environ: Mapping[str, str],
    *,
    code: str = "",
    given: str = "",
    cwd: str | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run `sessiond` to its end; return its exit code and what it wrote. `given` is its standard input."""
    with tempfile.TemporaryFile("w+") as put, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        put.write(given)
        put.seek(0)
        program = Program(words, environ, code=code, stdin=put, stdout=out, stderr=err, cwd=cwd)
        try:
            exit_code = program.wait(timeout)
        finally:
            program.kill()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(program.args, exit_code, out.read(), err.read())


_CONTEXT = get_context("forkserver")
_LOCK = threading.Lock()
"""For what looks at the ends of processes: two threads would both read the one exit code."""


def _start_server() -> None:
    """Start the fork server, unless it runs."""
    _CONTEXT.set_forkserver_preload([__name__, "support.preloaded"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([SOURCE, TESTS])
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _become(words: list[str], code: str, environ: dict[str, str], cwd: str, streams: list[Connection]) -> None:
    """Turn this fork into the program; return or raise SystemExit at its end."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    # A new program has no other descriptors. The fork server finds this process's end and its code by its pid.
    os.closerange(3, 256)
    os.chdir(cwd)
    # Coverage measures interpreters that it has seen start, and macOS has libraries that do not work in a fork.
    if "coverage" in sys.modules or sys.platform == "darwin":
        run_it = ["-c", code] if code else ["-P", "-m", "sessiond"]
        os.execve(sys.executable, [sys.executable, *run_it, *words], {"PYTHONPATH": SOURCE, **environ})
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(
        1, "w", encoding="utf-8", buffering=1 if os.isatty(1) else -1, closefd=False
    )
    sys.stderr = sys.__stderr__ = os.fdopen(
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    sys.path.remove(TESTS)
    sys.argv = ["sessiond", *words]
    if code:
        exec(code, {"__name__": "__main__"})
    else:
        runpy.run_module("sessiond", run_name="__main__", alter_sys=True)


class _Forked:
    """Stands for the module `subprocess` where the program starts itself."""

    PIPE, TimeoutExpired = subprocess.PIPE, subprocess.TimeoutExpired

    @staticmethod
    def Popen(command: Sequence[str], *, stdin: File, stdout: File, start_new_session: bool) -> Program:  # noqa: N802
        """Start `python -P -m sessiond`."""
        assert command[:4] == [sys.executable, "-P", "-m", "sessiond"]
        assert start_new_session
        return Program(command[4:], os.environ, stdin=stdin, stdout=stdout, stderr=2)


@contextmanager
def forked_archives() -> Iterator[None]:
    """Start built-in archives as forks, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "subprocess", _Forked)
        yield
