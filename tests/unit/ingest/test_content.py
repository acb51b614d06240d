"""What of a file or a projection is still as it was captured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.ingest.content import Records
from sessiond.ingest.line_reader import MAX_RECORD
from sessiond.reader import Digest, Extent
from support.harness import CLAUDE, SESSION, Household, claude, household


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    with household(tmp_path) as made:
        yield made


def test_a_long_record_of_a_projection_stands_whole_or_not_at_all() -> None:
    """As of lines: that its first pieces are the same keeps nothing of a record that changed at its end."""
    digest = Digest(1)
    short, long = b"s" * 10, b"x" * (MAX_RECORD + 10)
    before = Records([short, long], digest)
    extents = [
        Extent(start=chunk.offset, length=len(chunk.data), digest=digest(chunk.data)) for chunk in before.chunks(0)
    ]
    assert before.unchanged_prefix(extents) == before.size
    assert Records([short, long[:-1] + b"y"], digest).unchanged_prefix(extents) == len(short) + 1


def test_an_emptied_file_changes_nothing_until_it_has_a_record_again(house: Household) -> None:
    """Rule 8: half a rewrite is normal, however long the other half takes."""
    path = house.write(CLAUDE, claude(SESSION, 1))
    house.settle()
    content = Path(path).read_bytes()
    os.truncate(path, 0)
    assert [outcome.retry for outcome in house.ingest(path)] == [True]
    house.push()
    assert house.held(SESSION) == content
    assert house.held_sessions()[SESSION]["record"]["message_count"] == 1
