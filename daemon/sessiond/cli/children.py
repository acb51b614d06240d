"""The sessions that a session has started: subagents that their tool keeps as sessions of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from sessiond.cli.session_view import Child
from sessiond.endpoint.wire import StoredSession
from sessiond.errors import Rejected
from sessiond.session import Item, ItemKind, Session, session_id
from sessiond.sources import find_sources
from sessiond.sources.objects import OBJECT, as_text
from sessiond.sources.records import parse

if TYPE_CHECKING:
    from sessiond.endpoint.read_client import ReadClient

PAGE = 1000
"""Sessions of the endpoint among which the children are looked for: those of the same time, the last ones first."""
LATER = timedelta(days=1)
"""How long after the end of a session its children may have begun: forks, and subagents that wait for their turn."""


def stored_children(client: ReadClient, parent: Session) -> list[Child]:
    """Return the children of a session that the endpoint has, which has no such filter.

    They are those of the same tool and machine that began at most a day after it ended. Raises: EndpointError.
    """
    query = {"tool": parent.tool, "machine_id": parent.machine_id or "", "since": parent.started_at.isoformat()}
    until = {} if parent.ended_at is None else {"until": (parent.ended_at + LATER).isoformat()}
    try:
        found = client.sessions(None, PAGE, query | until).sessions
    except Rejected:  # an endpoint of an earlier version has no such filter
        found = client.sessions(None, PAGE, query).sessions
    children = sorted((each for each in found if each.parent == parent.id), key=_started)
    return [Child(each.record.id, each.title) for each in children]


def _started(stored: StoredSession) -> tuple[datetime, str]:
    return stored.record.started_at, str(stored.record.id)


class Calls:
    """Finds the calls that started the children, each once.

    That is the first call or result that has a child's id, or the call that the child's first record names.
    """

    def __init__(self, parent: Session, children: Iterable[Child], first_record: Callable[[Child], bytes]) -> None:
        """`first_record` returns that of a child, b"" if it can't be read. It is called for tools that need it."""
        self._parent, self._left = parent, {str(child.id): child for child in children}
        self._by_call: dict[str, list[str]] = {}
        """The ids of children by the call that their first record names."""
        for source in find_sources():
            if source.tool == parent.tool and source.calling is not None:
                for identity, child in self._left.items():
                    with suppress(msgspec.DecodeError):
                        if call := as_text(parse(OBJECT, first_record(child)).get(source.calling)):
                            self._by_call.setdefault(call, []).append(identity)

    def lines(self, item: Item) -> Iterator[str]:
        """Iterate a line for each child that an item names, or that names the item."""
        if not self._left or item.kind not in (ItemKind.CALL, ItemKind.RESULT):
            return
        text = item.text if item.arguments is None else f"{item.text} {bytes(item.arguments).decode(errors='replace')}"
        named = {identity for identity in self._left if identity in text}
        if item.stream is not None:
            scopes = ("", self._parent.machine_id or "")
            named |= {str(session_id(self._parent.tool, item.stream, scope)) for scope in scopes} & self._left.keys()
        if item.call is not None:
            named.update(self._by_call.get(item.call, ()))
        for child in [self._left.pop(identity) for identity in list(self._left) if identity in named]:
            yield f"child {child.id}  {child.title or ''}".rstrip()
