"""Repairs that lose nothing: permissions of our own files, and a service that is not as this version installs it."""

from __future__ import annotations

import os

from sessiond import service
from sessiond.doctor.finding import Finding, Patient


def mend(finding: Finding, patient: Patient) -> str | None:
    """Do what a finding proposes and say it; None where only its user can. Raises: SessiondError, OSError."""
    if finding.repair == "chmod":
        os.chmod(finding.path, finding.mode)
        return f"chmod {finding.mode:o} {finding.path}"
    if finding.repair == "install":
        manager = service.find(patient.environ)
        manager.check()
        return "; ".join(manager.install(service.make_plan(patient.environ, patient.directory, patient.named)))
    return None
