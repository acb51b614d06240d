"""A systemd user manager of a test's own: in its own namespaces, with its own home, gone with the test.

The manager sees the machine's file system, so that it can start the program; cgroups, processes and /run are
its own. A small process beside it runs the commands that the test sends it, one line of JSON each.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def _found(name: str) -> str | None:
    return next((path for path in (f"/lib/systemd/{name}", f"/usr/lib/systemd/{name}") if os.path.exists(path)), None)


SYSTEMD, JOURNALD = _found("systemd"), _found("systemd-journald")

# Two namespaces of cgroups: one allows mounting them, the other makes the root inside the one that is removed after.
OUTER = """
set -e
mount -t cgroup2 none /sys/fs/cgroup
base=/sys/fs/cgroup
own=$base/sessiond-test-$$
mkdir "$own"
trap 'echo $$ > "$base/cgroup.procs"; find "$own" -depth -type d -exec rmdir {} ";"' EXIT
echo $$ > "$own/cgroup.procs"
unshare --cgroup --mount --pid --fork --kill-child --mount-proc bash -c "$1" inner
"""
INNER = """
set -e
umount /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run
mount --make-rshared /run  # credentials are mounted by a child of the manager, and have to be seen by it
mkdir -p /run/systemd/system /run/log/journal "$XDG_RUNTIME_DIR"
if [ -d /var/log/journal ]; then mount -t tmpfs none /var/log/journal; fi
chmod 700 "$XDG_RUNTIME_DIR"
exec "$PYTHON" "$HELPER"
"""


class Done:
    """The result of a command inside."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"Done({self.code}, {self.out!r}, {self.err!r})"


class Manager:
    """The manager, as the test controls it."""

    def __init__(self, process: subprocess.Popen[str], home: Path) -> None:
        self._process = process
        self.home = home

    def __call__(self, *words: str, **environ: str) -> Done:
        """Run a command beside the manager and wait for its end."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([words, environ]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the private manager ended"
        return Done(*json.loads(line))

    def systemctl(self, *words: str) -> Done:
        return self("systemctl", "--user", *words)

    @property
    def journals(self) -> bool:
        """Return whether a journal of its own runs too."""
        return self("test", "-S", "/run/systemd/journal/stdout").code == 0

    def clean(self) -> None:
        """Make the home empty again and let the manager forget what was in it."""
        self.systemctl("stop", "sessiond.service")
        for path in self.home.iterdir():
            if path.name != "manager.log":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.systemctl("daemon-reload")
        self.systemctl("reset-failed")

    def show(self, name: str, unit: str = "sessiond.service") -> str:
        return self.systemctl("show", f"--property={name}", "--value", unit).out.strip()


@contextmanager
def manager(base: Path, path: Sequence[str] = ()) -> Iterator[Manager]:
    """Start a manager with its home in `base`. Raises: NotImplementedError where this machine can't, and why."""
    if SYSTEMD is None or not all(shutil.which(name) for name in ("systemctl", "systemd-run", "unshare", "mount")):
        raise NotImplementedError("systemd is not on this machine")
    home = base / "home"
    home.mkdir()
    environ = {
        "HOME": str(home),
        "PATH": os.pathsep.join([*path, "/usr/local/bin", "/usr/bin", "/bin"]),
        "XDG_RUNTIME_DIR": "/run/user/0",
        "PYTHON": sys.executable,
        "HELPER": __file__,
        "LANG": "C.UTF-8",
    }
    process = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "--cgroup", "bash", "-c", OUTER, "outer", INNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )
    assert process.stdin and process.stdout and process.stderr
    try:
        if process.stdout.readline() != "ready\n":
            process.kill()
            said = process.stderr.read().strip().splitlines()
            raise NotImplementedError(f"no private manager here: {said[-1] if said else 'no reason given'}")
        yield Manager(process, home)
    finally:
        process.stdin.close()
        process.wait(60)
        for stream in (process.stdout, process.stderr):
            stream.close()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until another process has done something. The intervals grow, as a condition may be a command."""
    end, pause = time.monotonic() + seconds, 0.05
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)


def _inside() -> None:
    """Run as the process beside the manager."""
    runtime = os.environ["XDG_RUNTIME_DIR"]
    assert SYSTEMD
    log = open(os.path.join(os.environ["HOME"], "manager.log"), "w")  # noqa: SIM115 - as long as the process
    journald = None
    if JOURNALD is not None:
        journald = subprocess.Popen([JOURNALD], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: os.path.exists("/run/systemd/journal/stdout") or journald.poll() is not None)
    started = subprocess.Popen([SYSTEMD, "--user"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    until(lambda: os.path.exists(f"{runtime}/systemd/private") or started.poll() is not None)
    if started.poll() is not None:
        print(f"systemd --user ended with {started.returncode}", file=sys.stderr)
        sys.exit(1)
    environ = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus"}
    print("ready", flush=True)
    for line in sys.stdin:
        words, more = json.loads(line)
        given = {key: value for key, value in {**environ, **more}.items() if value}
        try:
            done = subprocess.run(
                words, check=False, capture_output=True, text=True, env=given, stdin=subprocess.DEVNULL
            )
            answer = (done.returncode, done.stdout, done.stderr)
        except FileNotFoundError as error:
            answer = (127, "", str(error))
        print(json.dumps(answer), flush=True)
    subprocess.run(["systemctl", "--user", "stop", "sessiond.service"], check=False, capture_output=True)
    started.terminate()
    started.wait(20)
    if journald is not None:
        journald.terminate()
        journald.wait(20)


if __name__ == "__main__":
    _inside()
