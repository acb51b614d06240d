"""Repairs that can't lose data: file permissions, and an outdated service definition."""

from __future__ import annotations

import os

from sessiond import service
from sessiond.doctor.finding import Finding, Installation


def repair(finding: Finding, installation: Installation) -> str | None:
    """Repair a finding and return what was done; None if only the user can fix it.

    Raises: SessiondError, OSError.
    """
    if finding.repair == "chmod":
        os.chmod(finding.path, finding.mode)
        return f"chmod {finding.mode:o} {finding.path}"
    if finding.repair == "install":
        manager = service.find(installation.environ)
        manager.check()
        return "; ".join(
            manager.install(service.make_plan(installation.environ, installation.directory, installation.named))
        )
    return None
