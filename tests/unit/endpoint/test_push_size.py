"""How the client learns the size of a push that an endpoint accepts."""

from __future__ import annotations

from sessiond.endpoint.push_size import PROBE_AFTER, PushSize


def accept(size: PushSize, pushes: int) -> None:
    for _ in range(pushes):
        size.accept(10)
        size.end()


def test_each_larger_size_is_tried_after_as_many_accepted_pushes() -> None:
    """Later tries need as many accepted pushes as the first one, since each may cost a refused request."""
    size = PushSize()
    size.limit = 10
    for limit in (10, 20, 40):
        accept(size, PROBE_AFTER - 1)
        assert size.limit == limit
        accept(size, 1)
        assert size.limit == 2 * limit
