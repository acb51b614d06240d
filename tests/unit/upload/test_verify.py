"""The comparison with what an endpoint lists."""

from __future__ import annotations

from typing import Any, cast

from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.upload.verify import _list


class Pages:
    """A client that returns these pages, by the position that they follow."""

    def __init__(self, pages: dict[str | None, tuple[str, bool]]) -> None:
        self.pages, self.asked = pages, list[str | None]()

    def changes(self, since: str | None, **_: Any) -> wire.ChangesAnswer:
        self.asked.append(since)
        following, more = self.pages[since]
        return wire.ChangesAnswer(sessions=[], next=following, more=more)


def asked(pages: dict[str | None, tuple[str, bool]]) -> list[str | None]:
    client = Pages(pages)
    assert list(_list(cast(ReadClient, client), "ada")) == [({}, set())] * len(client.asked)
    return client.asked


def test_pages_are_listed_to_the_last_one() -> None:
    assert asked({None: ("1", True), "1": ("2", True), "2": ("3", False)}) == [None, "1", "2"]


def test_a_list_that_does_not_move_on_ends() -> None:
    """An endpoint at fault could keep the daemon busy for good (rule 12)."""
    assert asked({None: ("1", True), "1": ("1", True)}) == [None, "1"]
