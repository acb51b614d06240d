"""The state machine of support/machine.py, in random order; SESSIOND_MACHINE_EXAMPLES is the number of examples."""

from __future__ import annotations

import os
import uuid

import pytest
from hypothesis import HealthCheck, Phase, settings

from sessiond.spool.safety import State
from support.machine import SESSIONS, Machine

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


@pytest.mark.parametrize("more", [0, 1])
def test_an_emptied_endpoint_that_rejects_an_item_reports_no_session_safe(more: int) -> None:
    """A push to an endpoint that was emptied meanwhile: the other session is missing there, so it is not safe.

    With one item, nothing of the push reaches the endpoint, and what it lacks stays unknown. With more, its answer
    names no batch before this one.
    """
    machine = Machine()
    first, second = SESSIONS
    try:
        machine.append(first, 3)
        machine.append(second, 3)
        machine.settle()
        number = uuid.UUID(first)
        state = machine.harness.spool.catalog.session(number)
        assert state is not None
        assert machine.harness.spool.safety.session(state.id, machine.harness.address) is State.SAFE
        machine.empty_endpoint(unseen=True)
        machine.truncate(second, 0.6)
        for _ in range(more):
            machine.append(second, 1)
        machine.ingest(second)
        machine.push_with_a_rejected_item(0)
        machine.what_is_reported_safe_is_at_the_endpoint()
        if more:
            assert not machine.changed_behind_us
            assert machine.harness.spool.safety.session(state.id, machine.harness.address) is State.WAITING
    finally:
        machine.teardown()
