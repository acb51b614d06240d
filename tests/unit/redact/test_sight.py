"""A window of the text around a place lies in the record of the place."""

from __future__ import annotations

import pytest

from sessiond.redact.sight import Sight

DATA = b'{"a":1}\n{"b":2}\n{"c":3}'


@pytest.mark.parametrize("stop", [1, 9, 99])
@pytest.mark.parametrize("margin", [0, 1, 9])
@pytest.mark.parametrize("position", range(len(DATA)))
def test_a_window_has_the_place_and_no_record_before_its_own(position: int, margin: int, stop: int) -> None:
    """A newline belongs to the record that it ends."""
    text, left, end = Sight(DATA).see(position, margin, position + stop)
    begin = DATA.rfind(b"\n", 0, position) + 1
    assert max(begin, position - margin, 0) >= left >= begin
    assert text[:end] == DATA[left : left + end]
    assert left + end > position
