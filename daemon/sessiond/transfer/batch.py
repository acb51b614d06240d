"""One batch of what is copied from the archive: it is pushed, and what became of each line is stored in its session."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from sessiond.endpoint import wire
from sessiond.errors import EndpointError, Unreachable
from sessiond.spool.archived import ArchivedSession
from sessiond.transfer.streams import StreamCopy
from sessiond.upload import ITEM_BYTES, UploadContext, next_batch_name, store_batch

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


def push_batch(context: UploadContext, lines: Sequence[Line]) -> None:
    """Push lines, and store in each session what became of them.

    Raises:
        EndpointError: the endpoint stored nothing.
    """
    taken = False
    refused: list[tuple[SessionCopy, EndpointError]] = []
    for part in context.client.push(lines, partial(_prepare, context), _weigh):
        if part.refusal is not None:
            refused.append((part.items[0][0], part.refusal))
        if part.answer is None:
            continue
        taken = True
        with context.spool.transaction():
            store_batch(context, part.answer.batch, part.answer.previous)
        context.attempts = 0
        for (copy, _), result in zip(part.items, part.answer.results, strict=True):
            _judge(copy, result)
    if refused and not taken:
        raise refused[0][1]
    for copy, reason in refused:
        copy.refused = reason.message


def _weigh(line: Line) -> int:
    """Return about how many bytes of a request a line takes."""
    push = line[1]
    return ITEM_BYTES + (len(push.data) if isinstance(push, wire.PushAppend) else 0)


def _prepare(context: UploadContext, lines: Sequence[Line]) -> tuple[list[wire.Push], str]:
    with context.spool.reading():
        return [push for _, push in lines], next_batch_name(context)


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
