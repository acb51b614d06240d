"""launchd, the service manager of macOS: the agent's plist, and how it is started."""

from __future__ import annotations

import os
import plistlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from sessiond.errors import ServiceError
from sessiond.service.call import Call
from sessiond.service.plan import Plan, packaged, write

LABEL = "io.sessiond"
UNLOADING = 45.0
"""Seconds that launchd may take to forget an agent: `bootout` returns before it has, and the daemon has the agent's
`ExitTimeOut` for its last push."""
RELEASING = 10.0
"""Seconds in which launchd may refuse an agent that it has forgotten just now."""
BUSY = (5, 37)
"""What `bootstrap` ends with meanwhile (EIO, EALREADY); the first also for an agent that it can't use."""
AT_SCREEN, ANYWHERE = "gui", "user"
"""The domain of a login at the screen, and the one that any login makes. Into that only what says so is loaded."""


class Launchd:
    """The launchd of whoever calls, in the domain of their login."""

    name = "launchd"

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._home = environ.get("HOME") or os.path.expanduser("~")
        self._call = Call(environ)
        self._seat = self._installed_for() or AT_SCREEN
        self._found: str | None = None

    @property
    def _domain(self) -> str:
        return f"{self._seat}/{os.getuid()}"

    @property
    def file(self) -> str:
        """Name the agent's file."""
        return os.path.join(self._home, "Library", "LaunchAgents", f"{LABEL}.plist")

    @property
    def _errors(self) -> str:
        """Name the file of what comes before the log is open, or ends it: an error in the configuration."""
        return os.path.join(self._home, "Library", "Logs", "sessiond.log")

    def installed(self) -> bool:
        """Tell whether the agent's file is there."""
        return os.path.exists(self.file)

    def check(self) -> None:
        """Make sure that launchd answers for this login; nothing was written by then. Raises: ServiceError."""
        # Over ssh, without anybody logged in at the screen, there is only the second.
        for seat in (AT_SCREEN, ANYWHERE):
            if self._call("launchctl", "print", f"{seat}/{os.getuid()}", patience=20).returncode == 0:
                self._found = seat
                return
        raise ServiceError("launchd does not answer", hint="call it as yourself, without sudo")

    def render(self, plan: Plan) -> str:
        """Put this program into the packaged agent."""
        return self._render(plan, self._found or self._seat)

    def _render(self, plan: Plan, seat: str) -> str:
        job: dict[str, Any] = plistlib.loads(packaged(f"{LABEL}.plist").encode())
        job["ProgramArguments"] = list(plan.command)
        job["StandardErrorPath"] = self._errors
        if seat == ANYWHERE:
            job["LimitLoadToSessionType"] = "Background"
        if plan.environment:
            job["EnvironmentVariables"] = plan.environment
        return plistlib.dumps(job, sort_keys=False).decode()

    def _installed_for(self) -> str | None:
        """Tell from the agent's file which domain it was made for; None where there is none, or nobody can tell."""
        try:
            with open(self.file, "rb") as file:
                job = plistlib.load(file)
        except (OSError, ValueError, plistlib.InvalidFileException):
            return None
        return ANYWHERE if isinstance(job, dict) and job.get("LimitLoadToSessionType") == "Background" else AT_SCREEN

    def install(self, plan: Plan) -> Iterator[str]:
        """Write the agent's file and start it; yield what was done, one line each. Raises: ServiceError."""
        yield f"{'wrote' if write(self.file, self.render(plan)) else 'kept'} {self.file}"
        self.stop()  # in the domain of the file that was there
        self._seat = self._found or self._seat
        self.start()
        yield "enabled it: it starts with your login"
        yield "started it"

    def uninstall(self) -> Iterator[str]:
        """Stop it and remove what `install` wrote; yield what was done."""
        if self._loaded():
            self.stop()
            yield "stopped it"
        for path in (self.file, self._errors):
            if os.path.exists(path):
                os.unlink(path)
                yield f"removed {path}"

    def start(self) -> None:
        """Load it, which starts it (`RunAtLoad`). Raises: ServiceError."""
        if self._loaded():
            if self.pid() is None:
                self._call.done("launchctl", "kickstart", f"{self._domain}/{LABEL}")
            return
        self._call.done("launchctl", "enable", f"{self._domain}/{LABEL}")
        until = time.monotonic() + RELEASING
        load = ("launchctl", "bootstrap", self._domain, self.file)
        while (ended := self._call(*load)).returncode in BUSY and time.monotonic() < until:
            if self._loaded():
                return
            time.sleep(0.5)
        if ended.returncode:
            said = (ended.stderr or ended.stdout).strip().splitlines()
            reason = said[0] if said else f"it ended with {ended.returncode}"
            raise ServiceError(f"launchd does not load the agent: {reason}", hint="log out and in again: that loads it")

    def stop(self) -> None:
        """Unload it until the next login or start. Raises: ServiceError."""
        if self._loaded():
            self._call("launchctl", "bootout", f"{self._domain}/{LABEL}")
            until = time.monotonic() + UNLOADING
            while self._loaded():
                if time.monotonic() > until:
                    raise ServiceError("launchd does not unload the agent", hint="try again in a minute")
                time.sleep(0.2)

    def restart(self) -> None:
        """Unload it and load it anew, so that a changed file counts. Raises: ServiceError."""
        self.stop()
        self.start()

    def pid(self) -> int | None:
        """Name the main process; None while it does not run."""
        found = re.search(r"(?m)^\s*pid = (\d+)$", self._call("launchctl", "print", f"{self._domain}/{LABEL}").stdout)
        return int(found[1]) if found else None

    def drift(self, plan: Plan) -> str | None:
        """Say how the installed agent differs from what would be installed now; None where it does not."""
        try:
            with open(self.file, encoding="utf-8") as file:
                text = file.read()
        except OSError:
            return None
        return (
            None if text == self._render(plan, self._seat) else f"{self.file} differs from what this version installs"
        )

    def lingers(self) -> bool | None:
        """Tell nothing: an agent ends with the login, and there is no choice."""
        return None

    def linger(self) -> None:
        """Do nothing, as `lingers` tells."""

    def _loaded(self) -> bool:
        return self._call("launchctl", "print", f"{self._domain}/{LABEL}", patience=20).returncode == 0
