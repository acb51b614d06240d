"""A window of the text around a place lies in the record of the place."""

from __future__ import annotations

import itertools

from sessiond.redact.sight import Sight

DATA = b'{"a":1}\n{"b":2}\n{"c":3}'


def test_a_window_has_the_place_and_no_record_before_its_own() -> None:
    """A newline belongs to the record that it ends."""
    for position, margin, stop in itertools.product(range(len(DATA)), (0, 1, 9), (1, 9, 99)):
        case = f"{position=}, {margin=}, {stop=}"
        text, left, end = Sight(DATA).see(position, margin, position + stop)
        begin = DATA.rfind(b"\n", 0, position) + 1
        assert max(begin, position - margin, 0) >= left >= begin, case
        assert text[:end] == DATA[left : left + end], case
        assert left + end > position, case
