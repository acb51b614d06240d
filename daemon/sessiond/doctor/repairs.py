"""Repairs that lose nothing: permissions of our own files, and a service that is not as this version installs it."""

from __future__ import annotations

import os

from sessiond import service
from sessiond.doctor.finding import Finding, Installation


def repair(finding: Finding, installation: Installation) -> str | None:
    """Do what a finding proposes and say it; None where only its user can. Raises: SessiondError, OSError."""
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
