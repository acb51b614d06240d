"""Sequences of the state machine that once broke a promise, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.machine import SESSIONS, Machine


class Choices:
    """Answers the draws of a rule."""

    def __init__(self, *choices: object) -> None:
        self._choices = iter(choices)

    def draw(self, _: object) -> object:
        return next(self._choices)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Yield a state machine whose promises are checked by `hold` instead of by Hypothesis."""
    made = Machine()
    yield made
    made.teardown()


def hold(machine: Machine) -> None:
    machine.nothing_is_half_done()
    machine.what_is_reported_safe_is_at_the_endpoint()


@pytest.mark.parametrize(("back", "torn"), [(0, False), (1, False), (2, True)])
def test_a_partly_pushed_session_survives_neither_side(machine: Machine, back: int, torn: bool) -> None:
    """The endpoint comes back without the second line, the power goes here, and the tool deletes the files."""
    one, other = SESSIONS
    machine.append_during_a_push(other)
    machine.settle()
    machine.append_during_a_push(one)
    machine.edit_in_place(other, Choices(b"SAID", True))
    machine.reuse_inode(one)
    machine.keep_endpoint_copy()
    machine.restart()
    machine.delete(one)
    machine.settle()
    hold(machine)
    machine.cut_power(back, torn)
    machine.restore_old_endpoint(False)
    machine.change_version(False)
    machine.delete(one)
    machine.delete(other)
    machine.settle()
    hold(machine)


def test_bytes_that_only_a_disabled_source_had_do_not_block_the_queue(machine: Machine) -> None:
    """The endpoint lost the first line, which was edited since then. The second one is in the outbox alone."""
    session = SESSIONS[0]
    machine.append(session, 1)
    machine.settle()
    machine.append(session, 1)
    machine.ingest(session)
    machine.switch_source(False)
    machine.edit_in_place(session, Choices(b"SAID", False))
    machine.empty_endpoint(False)
    machine.settle()
    hold(machine)
