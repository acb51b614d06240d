"""The seconds by which tests are chosen."""

from __future__ import annotations

import pytest

from mutants.collected import quiet_seconds


@pytest.mark.parametrize(
    ("cpu", "elapsed", "load", "expected"),
    [(1, 2, 1, 2), (1, 2, 2, 2), (1, 20, 20, 2), (3, 20, 20, 3), (0, 20, 4, 10)],
)
def test_the_load_of_a_measurement_changes_little(cpu: float, elapsed: float, load: float, expected: float) -> None:
    """A mutant is judged by as many tests, whatever else the machine did while they were measured."""
    assert quiet_seconds(cpu, elapsed, load, cores=2) == expected
