"""A machine of a test's own, booted by systemd as PID 1 in a container of systemd-nspawn, gone with the test.

It has the programs of this one (/usr and Python, read-only) and nothing else of it: its own /etc, /var and home, its
own processes, cgroups and network. A small process beside it boots it, cuts its power, and runs the commands that the
test sends, one line of JSON each.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from private_manager import Done, until

USER, UID = "ann", 1000
PATIENCE = 180.0
"""Seconds that a command on the machine may take."""
LIBPAM = (
    "/usr/lib/*/security/pam_systemd.so",
    "/usr/lib/security/pam_systemd.so",
    "/usr/lib64/security/pam_systemd.so",
)

# A cgroup of its own in the one hierarchy, whatever this machine has mounted; and a /run that nspawn may write to.
OUTER = """
set -e
mount --make-rprivate /
umount --lazy /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run
base=/sys/fs/cgroup
own=$base/sessiond-boot-$$
mkdir "$own"
leave() {
  echo $$ > "$base/cgroup.procs"
  for _ in 1 2 3 4 5; do find "$own" -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.1; done
}
trap leave EXIT
echo $$ > "$own/cgroup.procs"
unshare --pid --fork --kill-child --mount-proc "$PYTHON" "$HELPER" "$@"
"""

# Units that ask questions at the first boot, need a device, or belong to a machine with a network and a screen.
MASKED = (
    *(
        f"systemd-{name}.service"
        for name in ("firstboot", "networkd", "resolved", "timesyncd", "udevd", "udev-trigger")
    ),
    *(f"systemd-{name}" for name in ("hwdb-update.service", "homed.service", "oomd.service")),
    *(f"systemd-{name}.socket" for name in ("networkd", "userdbd")),
    *("console-getty.service", "getty@tty1.service", "getty.target"),
    *("remote-fs.target", "network-online.target", "NetworkManager.service"),
)

ETC = {
    "passwd": f"root:x:0:0:root:/root:/bin/sh\nmessagebus:x:990:990::/nonexistent:/usr/sbin/nologin\n"
    f"dbus:x:989:989::/nonexistent:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
    f"{USER}:x:{UID}:{UID}::/home/{USER}:/bin/sh\n",
    "group": f"root:x:0:\nmessagebus:x:990:\ndbus:x:989:\nnogroup:x:65534:\n{USER}:x:{UID}:\n",
    "shadow": f"root:*:20000::::::\n{USER}:*:20000::::::\n",
    "hostname": "box\n",
    "os-release": "ID=sessiond-test\nNAME=test\n",
    "machine-id": f"{0x5E551:032x}\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "hosts": "127.0.0.1 localhost\n",
    "pam.d/other": "auth required pam_deny.so\naccount required pam_permit.so\nsession required pam_permit.so\n",
    "pam.d/runuser-l": "auth sufficient pam_rootok.so\naccount required pam_permit.so\n"
    "session required pam_systemd.so\n",
    "pam.d/systemd-user": "account required pam_permit.so\nsession required pam_systemd.so\n",
    "systemd/system.conf": "[Manager]\nDefaultTimeoutStopSec=20s\nDefaultDeviceTimeoutSec=1s\n",
    "systemd/logind.conf": "[Login]\nUserStopDelaySec=1s\n",
    "systemd/journald.conf": "[Journal]\nStorage=persistent\n",
}


class Machine:
    """The machine, as the test controls it."""

    def __init__(self, process: subprocess.Popen[str], root: Path) -> None:
        self._process = process
        self.root = root
        self.home = root / "home" / USER

    def _ask(self, verb: str, *words: str, environ: dict[str, str] | None = None) -> Done:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([verb, words, environ or {}]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process beside the machine ended"
        return Done(*json.loads(line))

    def __call__(self, *words: str, **environ: str) -> Done:
        """Run a command as the user, without a login."""
        return self._ask("user", *words, environ=environ)

    def as_root(self, *words: str) -> Done:
        """Run a command as root."""
        return self._ask("root", *words)

    def boot(self) -> None:
        """Switch it on and wait until all has been started."""
        booted = self._ask("boot")
        assert booted.code == 0, booted

    def shut_down(self) -> None:
        """Ask it to end, as a shutdown does, and wait for that."""
        self._ask("halt")

    def cut_power(self) -> None:
        """End everything on it at once."""
        self._ask("cut")

    def log_in(self) -> None:
        """Open a session of the user's, as a console or ssh does."""
        assert self._ask("login").code == 0

    def log_out(self) -> None:
        """Close that session."""
        assert self._ask("logout").code == 0

    def show(self, name: str, unit: str = "sessiond.service") -> str:
        """Return a property of the user's manager; an empty string if the manager does not run."""
        return self("systemctl", "--user", "show", f"--property={name}", "--value", unit).out.strip()

    @property
    def up(self) -> bool:
        """Return whether the user has a manager now."""
        return self.as_root("systemctl", "is-active", f"user@{UID}.service").out == "active\n"


def possible() -> str | None:
    """Return why this system can't do it, or None if it may be able to."""
    needed = ("systemd-nspawn", "systemctl", "loginctl", "dbus-daemon", "nsenter", "setpriv", "runuser", "unshare")
    if os.geteuid():
        return "a container needs root"
    if missing := [name for name in needed if shutil.which(name) is None]:
        return f"not on this machine: {', '.join(missing)}"
    if not any(list(Path("/").glob(pattern[1:])) for pattern in LIBPAM):
        return "no pam_systemd on this machine"
    return None


@contextmanager
def machine(base: Path, programs: Sequence[Path]) -> Iterator[Machine]:
    """Make a machine in `base`, switched off. `programs` are shown in it at their own paths, read-only.

    Raises: NotImplementedError where this system can't, and why.
    """
    if reason := possible():
        raise NotImplementedError(reason)
    root = base / "machine"
    try:
        _furnish(root)
    except OSError as error:
        raise NotImplementedError(f"no container can be furnished here: {error.strerror}") from error
    shown = dict.fromkeys(map(str, programs))
    process = subprocess.Popen(
        ["unshare", "--mount", "bash", "-c", OUTER, "outer", str(root), *shown],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHON": sys.executable,
            "HELPER": __file__,
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        },
    )
    assert process.stdin and process.stdout and process.stderr
    made = Machine(process, root)
    try:
        if process.stdout.readline() != "ready\n":
            os.killpg(process.pid, signal.SIGKILL)
            said = process.stderr.read().strip().splitlines()
            raise NotImplementedError(f"no container here: {said[-1] if said else 'no reason given'}")
        try:
            booted = made._ask("boot")
        except AssertionError as error:
            raise NotImplementedError(f"systemd does not boot here: {error}") from error
        if booted.code:
            raise NotImplementedError(f"systemd does not boot here: {(booted.err.splitlines() or ['?'])[-1]}")
        yield made
    finally:
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with it goes the process namespace, and all that is in it
            process.wait()
        for stream in (process.stdout, process.stderr):
            stream.close()


def _furnish(root: Path) -> None:
    for name in ("usr", "etc/pam.d", "etc/systemd/system", "var/lib/systemd/linger", "var/log/journal", "run", "home"):
        (root / name).mkdir(parents=True)
    for name in ("proc", "sys", "dev", "tmp", "root", "srv"):
        (root / name).mkdir(mode=0o755)
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(f"usr/{name}")
    for name, text in ETC.items():
        (root / "etc" / name).write_text(text)
    (root / "etc/shadow").chmod(0o600)
    for name in MASKED:
        (root / "etc/systemd/system" / name).symlink_to("/dev/null")
    for name in ("alternatives", "dbus-1", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "security"):
        there = Path("/etc", name)
        if there.is_dir():
            shutil.copytree(there, root / "etc" / name, symlinks=True)
        elif there.exists():
            shutil.copy(there, root / "etc" / name)
    home = root / "home" / USER
    home.mkdir(mode=0o700)
    os.chown(home, UID, UID)


class _Inside:
    """The process beside the machine."""

    def __init__(self, root: str, shown: Sequence[str]) -> None:
        self._command = [
            "systemd-nspawn",
            "--quiet",
            f"--directory={root}",
            "--machine=box",
            "--register=no",
            "--keep-unit",
        ]
        self._command += [
            "--private-network",
            "--console=pipe",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
        ]
        self._command += [f"--bind-ro={path}" for path in ("/usr", *shown)]
        self._command += ["--boot", "systemd.firstboot=off", "systemd.unit=multi-user.target"]
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._session: subprocess.Popen[bytes] | None = None

    def boot(self) -> Done:
        self._nspawn = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=2, stderr=2)
        self._leader = 0
        until(lambda: self._found() or self._ended())
        if self._ended():
            return Done(1, "", f"systemd-nspawn ended with {self._nspawn.returncode}")
        until(lambda: self.run("test", "-S", "/run/systemd/private").code == 0 or self._ended())
        state = self.run("systemctl", "is-system-running", "--wait").out.strip()
        failed = self.run("systemctl", "list-units", "--failed", "--no-legend", "--plain").out
        # A unit of this machine that can't work in a container does not matter, as long as people can come in.
        fine = state in ("running", "degraded") and "logind" not in failed
        return Done(0 if fine else 1, state, failed)

    def _found(self) -> bool:
        """Find the machine's PID 1: the child of systemd-nspawn that runs systemd."""
        assert self._nspawn
        for child in _children(self._nspawn.pid):
            with contextlib.suppress(OSError), open(f"/proc/{child}/comm") as file:
                if file.read().strip() == "systemd":
                    self._leader = child
        return self._leader > 0

    def _ended(self) -> bool:
        assert self._nspawn
        return self._nspawn.poll() is not None

    def end(self, *, gently: bool) -> Done:
        assert self._nspawn
        if gently:
            self.run("systemctl", "poweroff")
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)
        try:
            self._nspawn.wait(60)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        if self._session:
            self._session.wait()
            self._session = None
        return Done(0, "", "")

    def _enter(self, *words: str) -> list[str]:
        return ["nsenter", f"--target={self._leader}", "--all", "--root", "--wd", "--", *words]

    def run(self, *words: str, environ: dict[str, str] | None = None) -> Done:
        given = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root", **(environ or {})}
        done = subprocess.run(
            self._enter(*words),
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=given,
            timeout=PATIENCE,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def run_as_user(self, *words: str, environ: dict[str, str]) -> Done:
        given = {
            "HOME": f"/home/{USER}",
            "USER": USER,
            "XDG_RUNTIME_DIR": f"/run/user/{UID}",
            "PATH": f"{environ.pop('PATH', '')}:/usr/local/bin:/usr/bin:/bin".lstrip(":"),
            **environ,
        }
        drop = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--"]
        return self.run(*drop, *words, environ=given)

    def log_in(self) -> Done:
        self._session = subprocess.Popen(
            self._enter("runuser", "-l", USER, "-c", "echo in; exec cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._session.stdout
        return Done(0 if self._session.stdout.readline() == b"in\n" else 1, "", "")

    def log_out(self) -> Done:
        assert self._session and self._session.stdin
        self._session.stdin.close()
        self._session.wait(30)
        self._session = None
        return Done(0, "", "")

    def answer(self, verb: str, words: list[str], environ: dict[str, str]) -> Done:
        match verb:
            case "boot":
                return self.boot()
            case "halt" | "cut":
                return self.end(gently=verb == "halt")
            case "login":
                return self.log_in()
            case "logout":
                return self.log_out()
            case "user":
                return self.run_as_user(*words, environ=environ)
        return self.run(*words)

    def close(self) -> None:
        if self._nspawn and not self._ended():
            self.end(gently=False)


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def _inside() -> None:
    inside = _Inside(sys.argv[1], sys.argv[2:])
    print("ready", flush=True)
    try:
        for line in sys.stdin:
            done = inside.answer(*json.loads(line))
            print(json.dumps((done.code, done.out, done.err)), flush=True)
    finally:
        inside.close()


if __name__ == "__main__":
    _inside()
