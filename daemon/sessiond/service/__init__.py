"""sessiond as a service of the user: systemd's user manager on Linux, launchd on macOS.

service = find(environ)      which manager there is
service.check()              that it can be talked to; nothing is written before
service.install(plan)        the unit or the plist, rendered from the packaged one; yields what was done
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping

from sessiond.errors import ServiceError
from sessiond.service.launchd import Launchd
from sessiond.service.plan import Plan, make_plan
from sessiond.service.systemd import Systemd

__all__ = ["Launchd", "Plan", "Service", "Systemd", "find", "make_plan"]

Service = Systemd | Launchd


def find(environ: Mapping[str, str]) -> Service:
    """Choose the service manager of this system.

    Raises: ServiceError where there is none that we know.
    """
    if sys.platform == "darwin":
        return Launchd(environ)
    if shutil.which("systemctl", path=environ.get("PATH")):
        return Systemd(environ)
    raise ServiceError(
        "there is no service manager here that sessiond knows (systemd, launchd)",
        hint="let your own one run `sessiond run`; it stays in the foreground and ends with SIGTERM",
    )
