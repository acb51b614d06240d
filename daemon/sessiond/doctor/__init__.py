"""Checks of the installation; each finding says how to fix it.

findings = list(run_checks(installation))
for finding in findings: repair(finding, installation)    # only if `finding.repair` is set
"""

from __future__ import annotations

from collections.abc import Iterator

from sessiond.doctor.endpoint import endpoint_checks
from sessiond.doctor.finding import Finding, Installation, Severity
from sessiond.doctor.machine import machine_checks
from sessiond.doctor.repairs import repair
from sessiond.doctor.setup import setup_checks

__all__ = ["Finding", "Installation", "Severity", "repair", "run_checks"]


def run_checks(installation: Installation) -> Iterator[Finding]:
    """Run all checks and iterate their findings. The last checks use the network and may take some seconds."""
    yield from setup_checks(installation)
    yield from machine_checks(installation)
    yield from endpoint_checks(installation)
