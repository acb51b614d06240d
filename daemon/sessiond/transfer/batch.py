"""One push of data from the archive, and its result for each session."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sessiond.endpoint import quota, wire
from sessiond.errors import EndpointError, Unreachable
from sessiond.transfer.session import SessionCopy
from sessiond.upload import ITEM_BYTES, UploadContext, next_batch_name, store_batch

FINAL = ("machine-taken", "invalid", "too-large", "expired")
"""Problems that another attempt does not solve."""
Line = tuple[SessionCopy, wire.Push]


def push_batch(context: UploadContext, lines: Sequence[Line]) -> None:
    """Push lines, and store in each session what became of them.

    Raises:
        EndpointError: the endpoint stored nothing.
    """
    taken, stored = False, 0
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
            stored += _judge(copy, result)
    if refused and not taken:
        raise refused[0][1]
    if not stored and any(copy.postponed for copy, _ in lines):
        # The protocol has the endpoint store at least one line of each push. Repeating the push at once would loop.
        raise Unreachable("the endpoint stored nothing of a push and asks for a smaller one")
    for copy, reason in refused:
        copy.refused = reason.message


def _weigh(line: Line) -> int:
    """Return about how many bytes of a request a line takes."""
    push = line[1]
    return ITEM_BYTES + (len(push.data) if isinstance(push, wire.PushAppend) else 0)


def _prepare(context: UploadContext, lines: Sequence[Line]) -> tuple[list[wire.Push], str]:
    with context.spool.reading():
        return [push for _, push in lines], next_batch_name(context)


def _judge(copy: SessionCopy, result: wire.Result) -> bool:
    """Store the result of one line in its session; return whether the endpoint has the line.

    Raises: Unreachable if the endpoint has no space for it.
    """
    problem = result.problem
    if problem is None or problem.type == "stale":  # a later state of the record is already there
        return True
    if problem.type == "quota":
        raise quota.used_up()
    if problem.type == "forgotten":
        copy.forgotten = True
    elif problem.type == "push-full":
        copy.postponed = True
    elif problem.type in FINAL:
        copy.refused = problem.detail or problem.title
    else:
        copy.contradicted = True
    return False
