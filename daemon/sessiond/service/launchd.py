"""launchd, the service manager of macOS: install, start and stop the agent."""

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
UNLOAD_TIMEOUT = 45.0
"""Seconds to wait until an agent is unloaded: `bootout` returns earlier, and the daemon may use `ExitTimeOut` for its
last push."""
LOAD_TIMEOUT = 10.0
"""Seconds in which launchd may refuse an agent that was unloaded just before."""
BUSY = (5, 37)
"""Exit codes of `bootstrap` in that time (EIO, EALREADY); EIO also means an invalid agent."""
AT_SCREEN, ANYWHERE = "gui", "user"
"""The domain of a graphical login, and that of any login. Only agents that request it are loaded into the latter."""


class Launchd:
    """launchd of the calling user."""

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
        """The path of the agent's file."""
        return os.path.join(self._home, "Library", "LaunchAgents", f"{LABEL}.plist")

    @property
    def _errors(self) -> str:
        """The path of the file for errors before the log is open, such as an invalid configuration."""
        return os.path.join(self._home, "Library", "Logs", "sessiond.log")

    def installed(self) -> bool:
        """Return whether the agent is installed."""
        return os.path.exists(self.file)

    def check(self) -> None:
        """Check that launchd answers for this login. Raises: ServiceError."""
        # Over ssh, without a graphical login, only the second domain exists.
        for seat in (AT_SCREEN, ANYWHERE):
            if self._call("launchctl", "print", f"{seat}/{os.getuid()}", patience=20).returncode == 0:
                self._found = seat
                return
        raise ServiceError("launchd does not answer", hint="run it as your own user, without sudo")

    def render(self, plan: Plan) -> str:
        """Return the packaged agent with the values of the plan."""
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
        """Return the domain of the installed agent; None if it is not installed or unreadable."""
        try:
            with open(self.file, "rb") as file:
                job = plistlib.load(file)
        except (OSError, ValueError, plistlib.InvalidFileException):
            return None
        return ANYWHERE if isinstance(job, dict) and job.get("LimitLoadToSessionType") == "Background" else AT_SCREEN

    def install(self, plan: Plan) -> Iterator[str]:
        """Write the agent's file and start it; iterate what was done, one line each. Raises: ServiceError."""
        yield f"{'wrote' if write(self.file, self.render(plan)) else 'kept'} {self.file}"
        self.stop()  # in the domain of the previous file
        self._seat = self._found or self._seat
        self.start()
        yield "enabled it: it starts with your login"
        yield "started it"

    def uninstall(self) -> Iterator[str]:
        """Stop the agent and remove its files; iterate what was done."""
        if self._loaded():
            self.stop()
            yield "stopped it"
        for path in (self.file, self._errors):
            if os.path.exists(path):
                os.unlink(path)
                yield f"removed {path}"

    def start(self) -> None:
        """Load the agent, which starts it (`RunAtLoad`). Raises: ServiceError."""
        if self._loaded():
            if self.pid() is None:
                self._call.done("launchctl", "kickstart", f"{self._domain}/{LABEL}")
            return
        self._call.done("launchctl", "enable", f"{self._domain}/{LABEL}")
        until = time.monotonic() + LOAD_TIMEOUT
        load = ("launchctl", "bootstrap", self._domain, self.file)
        while (ended := self._call(*load)).returncode in BUSY and time.monotonic() < until:
            if self._loaded():
                return
            time.sleep(0.5)
        if ended.returncode:
            lines = (ended.stderr or ended.stdout).strip().splitlines()
            reason = lines[0] if lines else f"exit code {ended.returncode}"
            raise ServiceError(f"launchd does not load the agent: {reason}", hint="log out and in again to load it")

    def stop(self) -> None:
        """Unload the agent until the next login or start. Raises: ServiceError."""
        if self._loaded():
            self._call("launchctl", "bootout", f"{self._domain}/{LABEL}")
            until = time.monotonic() + UNLOAD_TIMEOUT
            while self._loaded():
                if time.monotonic() > until:
                    raise ServiceError("launchd does not unload the agent", hint="try again in a minute")
                time.sleep(0.2)

    def restart(self) -> None:
        """Unload and load the agent, which applies changes of its file. Raises: ServiceError."""
        self.stop()
        self.start()

    def pid(self) -> int | None:
        """Return the pid of the daemon; None if it is not running."""
        found = re.search(r"(?m)^\s*pid = (\d+)$", self._call("launchctl", "print", f"{self._domain}/{LABEL}").stdout)
        return int(found[1]) if found else None

    def drift(self, plan: Plan) -> str | None:
        """Return how the installed agent differs from the plan; None if it does not."""
        try:
            with open(self.file, encoding="utf-8") as file:
                text = file.read()
        except OSError:
            return None
        return (
            None if text == self._render(plan, self._seat) else f"{self.file} differs from what this version installs"
        )

    def lingers(self) -> bool | None:
        """Return None: an agent always ends with the login."""
        return None

    def linger(self) -> None:
        """Do nothing: launchd has no lingering."""

    def _loaded(self) -> bool:
        return self._call("launchctl", "print", f"{self._domain}/{LABEL}", patience=20).returncode == 0
