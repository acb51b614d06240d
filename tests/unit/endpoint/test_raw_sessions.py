"""Lists answer stored records without decoding them as a whole."""

from __future__ import annotations

from sessiond.endpoint.server.records import RawSession
from sessiond.endpoint.wire import StoredSession


def test_lists_answer_each_field_of_a_session() -> None:
    """A field that is missing in `RawSession` would be stored, and be missing in each list."""
    assert set(RawSession.__struct_fields__) == set(StoredSession.__struct_fields__)
