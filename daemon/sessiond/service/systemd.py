"""The systemd user manager: install, start and stop the unit."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping

from sessiond import exit_codes
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
"""Settings that need a mount namespace, which not every kernel allows for users."""
STRICTER = {"ProtectKernelLogs": "yes", "ProtectKernelTunables": "yes"}
"""Settings that also change /proc and /dev, which fewer systems allow; containers usually do not."""
BACKOFF = {"RestartSteps": "6", "RestartMaxDelaySec": "5min"}
"""Longer waits after repeated failures, since systemd 254."""
BACKOFF_SINCE = 254
CHECK = "fix it and start it again; `sessiond config check` checks the configuration"
JOURNAL_DELAY = 1.0
"""Seconds to wait until the journal has the last lines of a service."""


class Systemd:
    """The systemd manager of the calling user."""

    name = "systemd"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._home = environ.get("HOME") or os.path.expanduser("~")
        self._call = Call(environ)

    # Paths

    @property
    def directory(self) -> str:
        """The directory of the user's units."""
        base = self._environ.get("XDG_CONFIG_HOME") or os.path.join(self._home, ".config")
        return os.path.join(base, "systemd", "user")

    @property
    def file(self) -> str:
        """The path of the unit."""
        return os.path.join(self.directory, UNIT)

    def installed(self) -> bool:
        """Return whether the unit is installed."""
        return os.path.exists(self.file)

    def check(self) -> None:
        """Check that the manager answers and reads the directory of the unit. Nothing is written.

        Raises: ServiceError with a hint.
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
        return "in a container or without systemd, run `sessiond run` from your own supervisor"

    # Installing

    def render(self, plan: Plan) -> str:
        """Return the packaged unit with the command of the plan."""
        command = " ".join(_quoted(word) for word in plan.command)
        # A function, because backslashes in a replacement string are escapes.
        return re.sub(r"(?m)^ExecStart=.*$", lambda _: f"ExecStart={command}", packaged(UNIT))

    def install(self, plan: Plan) -> Iterator[str]:
        """Write the unit and its drop-ins, enable and start it; iterate what was done, one line each.

        Raises: ServiceError. Files that were already written stay for the next attempt.
        """
        changed = write(self.file, self.render(plan))
        yield f"{'wrote' if changed else 'kept'} {self.file}"
        for name, settings, why in self._drop_ins(plan):
            path = os.path.join(f"{self.file}.d", name)
            if settings:
                text = "".join(f"{line}\n" for line in (f"# {why}", "[Service]", *settings))
                # Mode 0600: addresses of proxies and names of directories are private.
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
            "Sandbox, because this system allows it. Home stays a single mount, because pins are hard links\n# from the"
            " tools' directories into the state directory.",
        )
        lines = [
            f"Environment={_quoted(f'{name}={value}', variables=False)}" for name, value in plan.environment.items()
        ]
        yield (
            "20-environment.conf",
            lines,
            "Copied from the shell that ran `sessiond install`; a service does not inherit them.",
        )
        lines = [f"{name}={value}" for name, value in BACKOFF.items()] if self._version() >= BACKOFF_SINCE else []
        yield "30-backoff.conf", lines, "Longer waits after repeated failures (systemd 254 and newer)."

    def _sandbox(self, plan: Plan) -> list[str]:
        """Return the sandbox settings with which this program starts; empty if the system allows none."""
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
            # Run the program itself: a sandbox may be allowed and still prevent Python from starting.
            tried = self._call(*words, "--", *plan.command[: plan.command.index("run")], "--version", patience=30)
        except ServiceError:
            return False
        return tried.returncode == 0

    def _version(self) -> int:
        found = re.search(r"\d+", self._call.done("systemctl", "--version"))
        return int(found[0]) if found else 0

    def uninstall(self) -> Iterator[str]:
        """Stop the unit and remove its files; iterate what was done. Works without a running manager too."""
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
            yield f"kept {self.file}.d, which has files of yours"
        if reachable:
            self._call("systemctl", "--user", "daemon-reload")
            self._call("systemctl", "--user", "reset-failed", UNIT)

    # Running

    def start(self) -> None:
        """Start the unit and wait until it is ready. Raises: ServiceError."""
        self._verb("start")

    def stop(self) -> None:
        """Stop the unit and wait for its last push. Raises: ServiceError."""
        self._verb("stop")

    def restart(self) -> None:
        """Restart the unit and wait until it is ready. Raises: ServiceError."""
        self._verb("restart")

    def _verb(self, verb: str) -> None:
        self._call(
            "systemctl", "--user", "reset-failed", UNIT
        )  # otherwise systemd could refuse the start after repeated failures
        ended = self._call("systemctl", "--user", verb, UNIT)
        if ended.returncode == 0:
            return
        status = self._property("ExecMainStatus")
        if status == str(exit_codes.CONFIG):
            raise ServiceError(self._last_error() or "the configuration or the state can't be used", hint=CHECK)
        if status == str(exit_codes.ALREADY_RUNNING):
            raise ServiceError(
                "another sessiond is already running", hint="stop it first; `sessiond status` shows its pid"
            )
        reason = f"exit code {status}" if status not in ("", "0") else _reason(ended.stderr)
        raise ServiceError(f"systemd could not {verb} {UNIT}: {reason}", hint=f"journalctl --user -u {UNIT} -n 20")

    def _last_error(self) -> str | None:
        """Return the last error of the service from the journal; None if there is none or it is not readable."""
        until = time.monotonic() + JOURNAL_DELAY
        words = [f"_PID={self._property('ExecMainPID')}", "--since=-10min", "--identifier=sessiond", "--output=cat"]
        while True:
            try:
                output = self._call("journalctl", *words, "--lines=50", "--quiet", "--no-pager", patience=10).stdout
            except ServiceError:
                return None
            for line in reversed(output.splitlines()):
                if line.startswith("sessiond: ") and not line.startswith("sessiond: warning: "):
                    return f"the service ended: {line.removeprefix('sessiond: ')}"
            if time.monotonic() > until:
                return None
            time.sleep(0.1)

    def _property(self, name: str) -> str:
        return self._call("systemctl", "--user", "show", f"--property={name}", "--value", UNIT).stdout.strip()

    def pid(self) -> int | None:
        """Return the pid of the daemon; None if it is not running."""
        text = self._property("MainPID")
        return int(text) if text.isdigit() and text != "0" else None

    def drift(self, plan: Plan) -> str | None:
        """Return how the installed unit differs from the plan; None if it does not."""
        try:
            with open(self.file, encoding="utf-8") as file:
                text = file.read()
        except OSError:
            return None
        return None if text == self.render(plan) else f"{self.file} differs from what this version installs"

    # Lingering

    def lingers(self) -> bool | None:
        """Return whether lingering is enabled; None if it is unknown."""
        asked = self._call("loginctl", "show-user", str(os.geteuid()), "--property=Linger", "--value", patience=10)
        answer = asked.stdout.strip()
        if asked.returncode or answer not in ("yes", "no"):
            return None
        return answer == "yes"

    def linger(self) -> None:
        """Enable lingering: the manager starts at boot and stays after the logout. Raises: ServiceError."""
        # With the uid: without it, logind needs a session of the caller, which a shell in tmux may not have.
        self._call.done("loginctl", "enable-linger", str(os.geteuid()), hint="as root: loginctl enable-linger USER")


def _quoted(word: str, *, variables: bool = True) -> str:
    """Quote a word for a unit file; escape `%` and, in a command, `$`."""
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
