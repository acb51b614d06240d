"""sessiond as a service of the user: systemd's user manager on Linux, launchd on macOS.

service = find(environ)      find the service manager
service.check()              check that it answers, before anything is written
service.install(plan)        write the unit or the plist and start it; iterates what was done
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping

from sessiond.errors import ServiceError
from sessiond.service.launchd import Launchd
from sessiond.service.plan import Plan, make_plan
from sessiond.service.systemd import Systemd

__all__ = ["Launchd", "Plan", "Service", "Systemd", "find", "find_installed", "make_plan"]

Service = Systemd | Launchd


def find(environ: Mapping[str, str]) -> Service:
    """Return the service manager of this system.

    Raises: ServiceError if there is no supported one.
    """
    if sys.platform == "darwin":
        return Launchd(environ)
    if shutil.which("systemctl", path=environ.get("PATH")):
        return Systemd(environ)
    raise ServiceError(
        "no supported service manager found (systemd, launchd)",
        hint="run `sessiond run` from your own supervisor; it stays in the foreground and ends on SIGTERM",
    )


def find_installed(environ: Mapping[str, str]) -> Service:
    """Return the service manager, which answers and has the service installed.

    Raises: ServiceError.
    """
    manager = find(environ)
    if not manager.installed():
        raise ServiceError(
            "the service is not installed", hint="`sessiond install` installs it; `sessiond run` runs without it"
        )
    manager.check()
    return manager
