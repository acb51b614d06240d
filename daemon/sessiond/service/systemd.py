"""The systemd user manager: the unit, its drop-ins, and how it is started."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping

from sessiond.errors import ServiceError
from sessiond.service.call import Call
from sessiond.service.plan import Plan, packaged, write

UNIT = "sessiond.service"
SANDBOX = {
    "PrivateUsers": "yes",
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelModules": "yes",
    "CapabilityBoundingSet": "",
}
"""What needs a mount namespace, which not every kernel allows to a user."""
STRICTER = {"ProtectKernelLogs": "yes", "ProtectKernelTunables": "yes"}
"""What changes /proc and /dev besides, which fewer allow: not inside a container, for one."""
BACKOFF = {"RestartSteps": "6", "RestartMaxDelaySec": "5min"}
"""Since systemd 254: after each failure a longer wait."""
BACKOFF_SINCE = 254
CONFIG_EXIT, RUNNING_EXIT = 78, 75
CHECK = "mend that and start it again; `sessiond config check` looks at the configuration"
TELLING = 1.0
"""Seconds in which the journal has what a service said at its end."""


class Systemd:
    """The user manager of whoever calls."""

    name = "systemd"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._home = environ.get("HOME") or os.path.expanduser("~")
        self._call = Call(environ)

    # Where things lie

    @property
    def directory(self) -> str:
        """Name the directory of the user's units."""
        base = self._environ.get("XDG_CONFIG_HOME") or os.path.join(self._home, ".config")
        return os.path.join(base, "systemd", "user")

    @property
    def file(self) -> str:
        """Name the unit's file."""
        return os.path.join(self.directory, UNIT)

    def installed(self) -> bool:
        """Tell whether the unit is there."""
        return os.path.exists(self.file)

    def check(self) -> None:
        """Make sure that the manager answers and reads the directory that we write to.

        Raises: ServiceError with what to do; nothing was written by then.
        """
        asked = self._call("systemctl", "--user", "show", "--property=UnitPath", "--value", patience=20)
        if asked.returncode:
            raise ServiceError(f"systemd's user manager does not answer: {_reason(asked.stderr)}", hint=self._why())
        if self.directory not in asked.stdout.split():
            raise ServiceError(
                f"systemd's user manager does not read {self.directory}",
                hint="XDG_CONFIG_HOME differs between this shell and the manager: unset it here",
            )

    def _why(self) -> str:
        if self._environ.get("SUDO_USER") or self._environ.get("SUDO_UID"):
            return "call it as yourself, without sudo"
        if not self._environ.get("XDG_RUNTIME_DIR"):
            return (
                "XDG_RUNTIME_DIR is not set: log in by itself (ssh, console) instead of su, or `machinectl shell USER@`"
            )
        return "is this a container or a system without systemd? then let its supervisor run `sessiond run`"

    # Installing

    def render(self, plan: Plan) -> str:
        """Put this program into the packaged unit."""
        command = " ".join(_quoted(word) for word in plan.command)
        # A function, since a backslash in a replacement text would mean something.
        return re.sub(r"(?m)^ExecStart=.*$", lambda _: f"ExecStart={command}", packaged(UNIT))

    def install(self, plan: Plan) -> Iterator[str]:
        """Write the unit and its drop-ins, enable and start it; yield what was done, one line each.

        Raises: ServiceError; what was written then stays for the next try.
        """
        changed = write(self.file, self.render(plan))
        yield f"{'wrote' if changed else 'kept'} {self.file}"
        for name, settings, why in self._drop_ins(plan):
            path = os.path.join(f"{self.file}.d", name)
            if settings:
                text = "".join(f"{line}\n" for line in (f"# {why}", "[Service]", *settings))
                # Addresses of proxies and names of directories are nobody else's business.
                yield f"{'wrote' if write(path, text, mode=0o600) else 'kept'} {path}"
            elif os.path.exists(path):
                os.unlink(path)
                yield f"removed {path}"
        self._call.done("systemctl", "--user", "daemon-reload")
        self._call.done("systemctl", "--user", "enable", UNIT)
        yield f"enabled it: it starts {'at boot' if self.lingers() else 'with your first login'}"
        self.restart()
        yield "started it"

    def _drop_ins(self, plan: Plan) -> Iterator[tuple[str, list[str], str]]:
        yield (
            "10-sandbox.conf",
            self._sandbox(plan),
            "This system allows a user's service its own view of the file system. Home stays one mount, because"
            " files\n# that wait are held by hard links from the tools' directories into the state directory.",
        )
        lines = [
            f"Environment={_quoted(f'{name}={value}', variables=False)}" for name, value in plan.environment.items()
        ]
        yield (
            "20-environment.conf",
            lines,
            "Set in the shell that called `sessiond install`; a service does not know it.",
        )
        lines = [f"{name}={value}" for name, value in BACKOFF.items()] if self._version() >= BACKOFF_SINCE else []
        yield "30-backoff.conf", lines, "systemd 254 and newer wait longer after each failure."

    def _sandbox(self, plan: Plan) -> list[str]:
        """Try the sandbox on this program; nothing where the system does not let a user have it."""
        writable = dict.fromkeys((self._home, plan.state_dir))
        inside = [path for path in writable if path == self._home or not _below(path, self._home)]
        paths = [f"ReadWritePaths={_quoted('-' + path, variables=False)}" for path in inside]
        for wanted in (SANDBOX | STRICTER, SANDBOX):
            settings = [*(f"{name}={value}" for name, value in wanted.items()), *paths]
            if self._starts_with(settings, plan):
                return settings
        return []

    def _starts_with(self, settings: list[str], plan: Plan) -> bool:
        words = ["systemd-run", "--user", "--wait", "--quiet", "--collect", "--service-type=exec"]
        words += [f"--property={setting}" for setting in settings]
        try:
            # The program itself, since a sandbox may be granted and keep Python from starting.
            tried = self._call(*words, "--", *plan.command[: plan.command.index("run")], "--version", patience=30)
        except ServiceError:
            return False
        return tried.returncode == 0

    def _version(self) -> int:
        found = re.search(r"\d+", self._call.done("systemctl", "--version"))
        return int(found[0]) if found else 0

    def uninstall(self) -> Iterator[str]:
        """Stop it and remove what `install` wrote; yield what was done. Works without a manager too."""
        reachable = self._call("systemctl", "--user", "show", "--property=Version", patience=20).returncode == 0
        if reachable and self.installed():
            self._call("systemctl", "--user", "disable", "--now", UNIT)
            yield "stopped and disabled it"
        ours = ["10-sandbox.conf", "20-environment.conf", "30-backoff.conf"]
        wanted = os.path.join(self.directory, "default.target.wants", UNIT)
        for path in (wanted, *(os.path.join(f"{self.file}.d", name) for name in ours), self.file):
            if os.path.lexists(path):
                os.unlink(path)
                yield f"removed {path}"
        for folder in (f"{self.file}.d", os.path.dirname(wanted)):
            if os.path.isdir(folder) and not os.listdir(folder):
                os.rmdir(folder)
        if os.path.isdir(f"{self.file}.d"):
            yield f"left {self.file}.d, which has files of yours"
        if reachable:
            self._call("systemctl", "--user", "daemon-reload")
            self._call("systemctl", "--user", "reset-failed", UNIT)

    # Running

    def start(self) -> None:
        """Start it and wait until it is ready. Raises: ServiceError."""
        self._verb("start")

    def stop(self) -> None:
        """Stop it and wait for its last push. Raises: ServiceError."""
        self._verb("stop")

    def restart(self) -> None:
        """Start it anew and wait until it is ready. Raises: ServiceError."""
        self._verb("restart")

    def _verb(self, verb: str) -> None:
        self._call(
            "systemctl", "--user", "reset-failed", UNIT
        )  # after a config error it would count as tried too often
        ended = self._call("systemctl", "--user", verb, UNIT)
        if ended.returncode == 0:
            return
        status = self._property("ExecMainStatus")
        if status == str(CONFIG_EXIT):
            raise ServiceError(self._told() or "the configuration or the state can't be used", hint=CHECK)
        if status == str(RUNNING_EXIT):
            raise ServiceError("another sessiond runs already", hint="end it first: `sessiond status` shows its pid")
        said = f"it ended with {status}" if status not in ("", "0") else _reason(ended.stderr)
        raise ServiceError(f"systemd could not {verb} {UNIT}: {said}", hint=f"journalctl --user -u {UNIT} -n 20")

    def _told(self) -> str | None:
        """Find in the journal why the last start was given up; None where there is none that we may read."""
        until = time.monotonic() + TELLING
        words = [f"_PID={self._property('ExecMainPID')}", "--since=-10min", "--identifier=sessiond", "--output=cat"]
        while True:
            try:
                said = self._call("journalctl", *words, "--lines=50", "--quiet", "--no-pager", patience=10).stdout
            except ServiceError:
                return None
            for line in reversed(said.splitlines()):
                if line.startswith("sessiond: ") and not line.startswith("sessiond: warning: "):
                    return f"the service ended: {line.removeprefix('sessiond: ')}"
            if time.monotonic() > until:
                return None
            time.sleep(0.1)

    def _property(self, name: str) -> str:
        return self._call("systemctl", "--user", "show", f"--property={name}", "--value", UNIT).stdout.strip()

    def pid(self) -> int | None:
        """Name the main process; None while it does not run."""
        text = self._property("MainPID")
        return int(text) if text.isdigit() and text != "0" else None

    def drift(self, plan: Plan) -> str | None:
        """Say how the installed unit differs from what would be installed now; None where it does not."""
        try:
            with open(self.file, encoding="utf-8") as file:
                text = file.read()
        except OSError:
            return None
        return None if text == self.render(plan) else f"{self.file} differs from what this version installs"

    # Logging out

    def lingers(self) -> bool | None:
        """Tell whether the manager stays when its user logs out; None where nobody knows."""
        asked = self._call("loginctl", "show-user", str(os.geteuid()), "--property=Linger", "--value", patience=10)
        answer = asked.stdout.strip()
        if asked.returncode or answer not in ("yes", "no"):
            return None
        return answer == "yes"

    def linger(self) -> None:
        """Keep the manager when its user logs out, and start it at boot. Raises: ServiceError."""
        # By number: without one, logind looks for the caller's session, and a shell in tmux may have none.
        self._call.done("loginctl", "enable-linger", str(os.geteuid()), hint="as root: loginctl enable-linger USER")


def _quoted(word: str, *, variables: bool = True) -> str:
    """Quote a word for a unit file; `%` and, in a command, `$` mean something there."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    if variables:
        text = text.replace("$", "$$")
    return text if re.fullmatch(r"[\w@%+=:,./-]+", text, re.ASCII) else f'"{text}"'


def _below(path: str, directory: str) -> bool:
    return os.path.commonpath((os.path.realpath(path), os.path.realpath(directory))) == os.path.realpath(directory)


def _reason(text: str) -> str:
    lines = text.strip().splitlines()
    reason = lines[0] if lines else "no reason given"
    return reason[:1].lower() + reason[1:]
