"""The state machine of support/machine.py, in random order; SESSIOND_MACHINE_EXAMPLES is the number of examples."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

from support.machine import Machine

TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=int(os.environ.get("SESSIOND_MACHINE_EXAMPLES", "10")),
    stateful_step_count=30,
    deadline=None,
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
        *([Phase.shrink] if os.environ.get("SESSIOND_SHRINK") else []),
    ],
    suppress_health_check=list(HealthCheck),
)
