"""What could go wrong on this machine, each finding with what mends it.

findings = list(examine(patient))
for finding in findings: mend(finding)    # only where `repair` says that it is safe
"""

from __future__ import annotations

from collections.abc import Iterator

from sessiond.doctor.endpoint import endpoint_checks
from sessiond.doctor.finding import Finding, Grade, Patient
from sessiond.doctor.machine import machine_checks
from sessiond.doctor.mending import mend
from sessiond.doctor.setup import setup_checks

__all__ = ["Finding", "Grade", "Patient", "examine", "mend"]


def examine(patient: Patient) -> Iterator[Finding]:
    """Yield the findings as they are made; the last ones need the network and may take some seconds."""
    yield from setup_checks(patient)
    yield from machine_checks(patient)
    yield from endpoint_checks(patient)
