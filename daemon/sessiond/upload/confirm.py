"""Compares the endpoint's bytes of a stream with the digests of what was queued, where the tool's file is gone.

Elsewhere the file is compared with the endpoint's digest. Without the file, only its bytes show what the endpoint has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import Forbidden, NotFound
from sessiond.logs import log
from sessiond.reader import Extent
from sessiond.spool.confirmation import UNCERTAIN, Confirmations, Unconfirmed
from sessiond.spool.verification import UNREADABLE
from sessiond.upload.context import UploadContext

ATTEMPTS = 2
"""Comparisons that have to find a difference before bytes count as lost: a proxy may have answered once."""


def confirm(context: UploadContext) -> Iterator[None]:
    """Compare unconfirmed streams one after another; yield after each request.

    What is equal counts as acknowledged, and what differs counts as lost. A token that only pushes can't read the
    bytes: then nothing is known of them, and they go on waiting.

    Raises: Forbidden if the token can't read, EndpointError.
    """
    spool = context.spool
    confirmations = Confirmations(spool.connection)
    while True:
        with spool.reading():
            found = confirmations.next()
            extents = [] if found is None else confirmations.queued(found.stream)
        if found is None:
            return
        most, refused = 0, None
        for _ in range(ATTEMPTS):
            try:
                for equal in count_equal(context.reader, context.machine_id, found, extents, context.digest):
                    most = max(most, equal)
                    yield
            except NotFound:
                pass  # it does not have the generation
            except Forbidden as error:
                refused = error  # also if it answers once: one answer is not enough for a difference
            if most >= found.length:
                refused = None
                break
            # A login page, a stray 404 or a proxy that forbids all are no answer about bytes: they fail here too, and
            # the comparison is repeated later.
            context.reader.offsets(context.machine_id, [wire.StreamKey(session=found.session, stream=found.name)])
        if refused is not None:
            spool.set_meta(UNREADABLE, str(refused))
            raise refused
        with spool.transaction():
            confirmations.settle(found, min(most, found.length))
            spool.set_meta(UNREADABLE, None)
        log.info("upload.compared", bytes=most, missing=max(found.length - most, 0))
        yield


def count_equal(
    client: ReadClient,
    machine_id: str,
    found: Unconfirmed,
    extents: list[Extent],
    digest: Callable[..., bytes],
    start: int = 0,
) -> Iterator[int]:
    """Read the endpoint's bytes from `start`; yield after each request up to where they are equal, in whole extents.

    `extents` begin at `start`.
    """
    held, equal = bytearray(), start
    parts = client.stream(
        machine_id, found.session, found.name, generation=found.generation, start=start, end=found.length
    )
    for extent in extents:
        if extent.start != equal:
            break
        while len(held) < extent.length:
            part = next(parts, b"")
            held += part
            yield equal
            if not part:
                return
        if extent.digest != UNCERTAIN and digest(bytes(held[: extent.length])) != extent.digest:
            break
        del held[: extent.length]
        equal = extent.end
    yield equal


def contiguous_end(extents: list[Extent]) -> int:
    """Return up to where extents follow one another from the beginning of a stream."""
    end = 0
    for extent in extents:
        if extent.start != end:
            break
        end = extent.end
    return end
