"""One batch of what is copied from the archive: it is pushed, and what became of each line is stored in its session."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sessiond.endpoint import wire
from sessiond.errors import EndpointError, Rejected, TooLarge, Unreachable
from sessiond.spool.archived import ArchivedSession
from sessiond.transfer.streams import StreamCopy
from sessiond.upload import LOST_ANSWERS, UploadContext, make_batch_name, store_batch

FINAL = ("machine-taken", "invalid", "too-large")
"""Problems that another try does not solve."""


class SessionCopy(msgspec.Struct):
    """A session that is being copied."""

    session: ArchivedSession
    streams: list[StreamCopy] = []
    unasked: bool = True
    """The endpoint has not answered yet where its streams stand."""
    refused: str | None = None
    contradicted: bool = False
    """The endpoint does not stand where it said: it is asked again."""


Line = tuple[SessionCopy, wire.Push]


def push_batch(setting: UploadContext, lines: Sequence[Line]) -> None:
    """Push lines and store in each session what became of them.

    A request that is refused as a whole is halved, as in upload(): a proxy may take less at once than the endpoint.
    Raises: EndpointError where nothing was taken.
    """
    stack, taken = [list(lines)] if lines else [], False
    refused: list[tuple[SessionCopy, EndpointError]] = []
    while stack:
        part = stack.pop()
        try:
            results = _push(setting, [push for _, push in part])
        except (TooLarge, Rejected) as error:
            if len(part) > 1:
                half = len(part) // 2
                stack += [part[half:], part[:half]]
            else:
                refused.append((part[0][0], error))
            continue
        taken = True
        for (copy, _), result in zip(part, results, strict=True):
            _judge(copy, result)
    if refused and not taken:
        raise refused[0][1]
    for copy, reason in refused:
        copy.refused = reason.message


def _push(setting: UploadContext, pushes: list[wire.Push]) -> list[wire.Result]:
    with setting.spool.reading():
        name = make_batch_name(setting)
    setting.attempts = (setting.attempts + 1) % LOST_ANSWERS
    answer: wire.PushAnswer = setting.retrying(setting.client.push, pushes, name)
    with setting.spool.transaction():
        store_batch(setting, name, answer.previous)
    setting.attempts = 0
    return answer.results


def _judge(copy: SessionCopy, result: wire.Result) -> None:
    """Take in what became of one push. Raises: Unreachable where the endpoint has no room."""
    problem = result.problem
    if problem is None or problem.type == "stale":  # a later state of the record is there already
        return
    if problem.type == "quota":
        raise Unreachable("the endpoint has no room for more transcripts", hint="raise its quota (serve --max-bytes)")
    if problem.type in FINAL:
        copy.refused = problem.detail or problem.title
    else:
        copy.contradicted = True
