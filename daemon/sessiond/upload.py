"""Upload: one batch, from the outbox to its acknowledgement."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from sessiond import zstd
from sessiond.endpoint import wire
from sessiond.endpoint.backoff import make_retrying
from sessiond.endpoint.client import Client
from sessiond.errors import EndpointError, Rejected, SpoolDamaged, TooLarge, Unreachable, WrongEndpoint
from sessiond.spool import Spool, health
from sessiond.spool.rows import Segment, SessionState
from sessiond.spool.safety import BOUND

if TYPE_CHECKING:
    import tenacity

BATCH_ITEMS = 200
BATCH_BYTES = 1 << 20
"""A batch: so many items, so many (compressed) bytes. One of 1 MiB takes a 1 Mbit/s line ten seconds."""
TEXT = 32 << 10
"""A segment up to this size travels as text, so that the body is compressed as one; a larger one as its frame."""
UNPACKED = 32 << 20
"""Bytes of a batch's segments when unpacked: more than the reference endpoint stores at once only comes back."""
TRIES = 3
"""Within one push; longer waits are in the spool, so that a restart keeps them."""
BOUND_ENDPOINT = "endpoint"
"""Meta key: the id of the endpoint that the acknowledgements are of."""
LAST_BATCH = "batch"
"""Meta key: the name of the last acknowledged batch."""
LOST_ANSWERS = 256
"""Batches in a row whose answer may be lost before both sides look at everything again."""
QUESTION = 500
"""Streams that one question about offsets names."""

_WAITING = {"quota": "full", "push-full": "postponed"}
"""Problems that are the endpoint's and not the item's: it stays in the outbox and is sent again."""

Item = SessionState | Segment


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a batch. `more`: the outbox holds more that could go now."""

    sessions: int = 0
    segments: int = 0
    bytes: int = 0
    parked: int = 0
    asked: int = 0
    healed: int = 0
    """Streams that differ from what the endpoint holds; the next read of their files heals them."""
    more: bool = False


class UploadContext(msgspec.Struct, kw_only=True, dict=True):
    """What upload works with."""

    spool: Spool
    client: Client
    machine_id: str
    device_id: UUID
    now_ms: Callable[[], int]
    sleep: Callable[[float], None]
    """Waits between two tries; ends early when the daemon stops."""
    settled: Callable[[BatchResult], None] = lambda _: None
    """Called inside the transaction that takes a batch out of the outbox, with what came of it."""
    address: str
    """The endpoint's address as it is configured; "" for the built-in archive, which has another one at each start."""
    installation: int = 0
    """What tells this state directory from a copy of it (device.installation)."""
    attempts: int = 0
    """Batches since the last acknowledged one."""

    @cached_property
    def retrying(self) -> tenacity.Retrying:
        """What tries a push again; to make it takes longer than to use it."""
        return make_retrying(TRIES, self.sleep)


def bind(setting: UploadContext) -> bool:
    """Find out which endpoint answers, and whether both remember the same last push; tells whether they do.

    With another endpoint, or where one of the two was restored from a backup, every record is pushed again and
    every stream's offset is asked for. Raises: EndpointError.
    """
    about = setting.client.about()
    identity, last = str(about.endpoint_id), setting.spool.meta(LAST_BATCH)
    known, address = setting.spool.meta(BOUND_ENDPOINT), setting.address
    # A push whose answer was lost is one of the next names; any of them may have been stored.
    expected = {last, *(make_batch_name(last, attempt, setting.installation) for attempt in range(LOST_ANSWERS))}
    same = known == identity and about.last_batch in expected
    if not same:
        with setting.spool.transaction():
            if known == identity and last is not None and about.last_batch is not None:
                health.note_divergence(setting.spool, setting.now_ms())
            setting.spool.catalog.change_endpoint(known, identity)
            setting.spool.set_meta(BOUND_ENDPOINT, identity)
            setting.spool.set_meta(LAST_BATCH, about.last_batch)
        setting.attempts = 0
    if setting.spool.meta(BOUND) != address:
        setting.spool.set_meta(BOUND, address)
    return same


def unbind_changed_endpoint(spool: Spool, address: str) -> None:
    """Believe no acknowledgement any more if another endpoint than the last one is configured, before it answers.

    `address` is the configured one, "" for the built-in archive.
    """
    bound = spool.meta(BOUND)
    if bound is None or bound == address:
        return
    with spool.transaction():
        spool.catalog.change_endpoint(spool.meta(BOUND_ENDPOINT), None)
        spool.set_meta(BOUND_ENDPOINT, None)
        spool.set_meta(BOUND, None)


def make_batch_name(last: str | None, attempt: int, installation: int) -> str:
    """Return the name of a batch after the last acknowledged one: each side can tell whether the other went on from it.

    The installation is part of it: a copy of a state directory has the same last batch, and would give its next one
    the same name, so that neither copy could tell the other's push from its own.
    """
    salt = f"/{installation}" if installation else ""
    return hashlib.blake2b(f"{last or ''}/{attempt}{salt}".encode(), digest_size=16).hexdigest()


def upload(
    setting: UploadContext, *, since_ms: int = 0, live_ms: int | None = None, size: int = BATCH_BYTES
) -> BatchResult:
    """Push one batch: the newest records and, in each stream's order, the newest streams' segments.

    `since_ms`: only of what was changed since then. What was changed since `live_ms` takes turns. `size`: compressed
    bytes at the most, one segment at the least.
    Raises: EndpointError when the endpoint took nothing; then everything stays in the outbox.
    """
    asked, undecoded = _ask(setting)
    with setting.spool.reading():
        sessions: list[Item] = list(setting.spool.outbox.sessions(BATCH_ITEMS // 2, since_ms))
        segments = list(setting.spool.outbox.segments(BATCH_ITEMS - len(sessions), size, since_ms, live_ms))
        items = sessions + _limited(segments, UNPACKED)
    if not items and undecoded and not asked:
        raise WrongEndpoint("the endpoint's answer about offsets can't be decoded", hint="upgrade whichever is older")
    if not items:
        return BatchResult(asked=asked, more=asked > 0)
    return msgspec.structs.replace(_push(setting, items), asked=asked)


def _limited(segments: list[Segment], most: int) -> list[Item]:
    """Return the first segments that are at most so many bytes when unpacked, one at least."""
    lengths = accumulate(segment.length for segment in segments)
    return [
        segment
        for count, (segment, length) in enumerate(zip(segments, lengths, strict=True))
        if count == 0 or length <= most
    ]


def _ask(setting: UploadContext) -> tuple[int, int]:
    """Ask where streams stand of which the spool does not know it: a new endpoint, or a new spool.

    Return of how many streams the answer could be decoded, and of how many not.
    """
    with setting.spool.reading():
        unknown = setting.spool.outbox.unknown_streams(QUESTION)
    if not unknown:
        return 0, 0
    keys = [wire.StreamKey(session=session, stream=name) for _, session, name in unknown]
    answers = setting.client.offsets(setting.machine_id, keys)
    with setting.spool.transaction():
        for (number, _, _), held in zip(unknown, answers, strict=True):
            if held is not None:  # else it stays unknown: its segments wait, and it is asked again with the next batch
                setting.spool.catalog.set_remote_position(number, held)
    undecoded = sum(held is None for held in answers)
    return len(unknown) - undecoded, undecoded


def _push(setting: UploadContext, items: Sequence[Item]) -> BatchResult:
    """Push items, halving what the endpoint refuses as a whole until the one that it refuses is alone.

    An item is poison only if another one succeeded meanwhile; otherwise it is the endpoint (rule 12).
    """
    stack, total = [list(items)], BatchResult()
    refused: list[tuple[Item, EndpointError]] = []
    while stack:
        part = stack.pop()
        with setting.spool.reading():
            pushes = [_wire(setting, item) for item in part]
            batch = make_batch_name(setting.spool.meta(LAST_BATCH), setting.attempts, setting.installation)
        setting.attempts = (setting.attempts + 1) % LOST_ANSWERS
        try:
            results = setting.retrying(setting.client.push, pushes, batch)
        except (TooLarge, Rejected) as error:
            if len(part) > 1:
                half = len(part) // 2
                stack += [part[half:], part[:half]]
            else:
                refused.append((part[0], error))
            continue
        total = _add(total, _settle(setting, part, results, batch))
    if refused and not total.sessions + total.segments:
        raise refused[0][1]
    if refused:
        with setting.spool.transaction():
            for item, reason in refused:
                _park(setting, item, reason.message)
    return _add(total, BatchResult(parked=len(refused), more=total.more))


def _wire(setting: UploadContext, item: Item) -> wire.Push:
    if isinstance(item, SessionState):
        assert item.record is not None
        return wire.PushSession(
            record=item.record,
            revision=item.revision,
            device_id=setting.device_id,
            parent=item.parent,
            title=item.title,
            gone_at=item.gone_ms,
            streams=setting.spool.catalog.lengths(item.id),
        )
    if item.data is None:
        assert item.keep is not None
        return wire.PushGeneration(
            machine_id=setting.machine_id,
            session=item.session,
            stream=item.stream,
            generation=item.generation,
            previous=item.previous,
            keep=item.keep,
        )
    return _append(setting, item, item.data)


def _append(setting: UploadContext, item: Segment, frame: bytes) -> wire.PushAppend:
    text = _plain(item, frame) if item.length <= TEXT else None
    return wire.PushAppend(
        machine_id=setting.machine_id,
        session=item.session,
        stream=item.stream,
        generation=item.generation,
        offset=item.offset,
        length=item.length,
        sha256=hashlib.sha256(frame if text is None else text.encode()).hexdigest(),
        data=base64.b64encode(frame).decode() if text is None else text,
        encoding="zstd" if text is None else "text",
    )


def _plain(item: Segment, frame: bytes) -> str | None:
    """Unpack a segment; None where it is no text. Raises: SpoolDamaged where it is not what was stored."""
    try:
        return zstd.decompress(frame, item.length).decode()
    except zstd.Undecodable as error:
        raise SpoolDamaged(f"the spool is damaged: a segment in it can't be unpacked: {error}") from error
    except UnicodeDecodeError:
        return None


def _settle(setting: UploadContext, items: Sequence[Item], results: Sequence[wire.Result], batch: str) -> BatchResult:
    """Rule 2: take out of the outbox what was acknowledged, and nothing else; in one transaction."""
    sessions = segments = size = parked = healed = full = postponed = 0
    with setting.spool.transaction():
        setting.spool.set_meta(LAST_BATCH, batch)
        broken: set[int] = set()
        for item, result in zip(items, results, strict=True):
            healed += _catch_up(setting, item, result.ahead)
            if result.problem is not None:
                outcome = _solve(setting, item, result.problem, broken)
                parked += outcome == "parked"
                healed += outcome == "healed"
                full += outcome == "full"
                postponed += outcome == "postponed"
            elif isinstance(item, SessionState):
                setting.spool.outbox.acknowledge_session(item.id, item.revision)
                sessions += 1
            else:
                setting.spool.outbox.acknowledge_segment(item)
                segments += 1
                size += item.length
        more = bool(healed or full or postponed) or setting.spool.outbox.has_due()
        pushed = BatchResult(sessions=sessions, segments=segments, bytes=size, parked=parked, healed=healed, more=more)
        setting.settled(pushed)
    setting.attempts = 0
    if full and not segments:
        raise Unreachable("the endpoint has no room for more", hint="raise its quota (serve --max-bytes)")
    if postponed and not sessions + segments + parked + healed:
        # It must take one item of each push. Coming back at once would be a loop without an end.
        raise Unreachable("the endpoint stored nothing of a push and asks for a smaller one")
    return pushed


def _catch_up(setting: UploadContext, item: Item, ahead: Sequence[wire.StreamLength]) -> int:
    """Ask about streams of which the endpoint has more than we know of: our state is from a backup."""
    found = 0
    session = item.uuid if isinstance(item, SessionState) else item.session
    for theirs in ahead:
        stream = setting.spool.catalog.find_stream(session, theirs.name)
        if stream and (theirs.generation, theirs.length) > (stream.generation, stream.folded):
            setting.spool.catalog.set_unknown(stream.id)
            found += 1
    return found


def _solve(setting: UploadContext, item: Item, problem: wire.Problem, broken: set[int]) -> str:
    """Do what a problem asks for, and return the outcome; `broken`: streams whose items are out of order."""
    if isinstance(item, SessionState):
        return _solve_session(setting, item, problem)
    if item.stream_id in broken:
        return "waits"  # behind another item of its stream that is being healed
    broken.add(item.stream_id)
    if problem.type in _WAITING:
        return _WAITING[problem.type]
    if (problem.generation or 0) > max(item.generation + wire.STEP, wire.FREE_GENERATION):
        _park(setting, item, f"the endpoint names generation {problem.generation}, above which there may be none")
        return "parked"
    if problem.type in ("offset-mismatch", "no-generation"):
        setting.spool.catalog.set_remote_position(
            item.stream_id,
            wire.RemotePosition(
                session=item.session,
                stream=item.stream,
                generation=problem.generation,
                length=problem.offset or 0,
                sha256=problem.sha256,
            ),
        )
        return "healed"
    if problem.type == "invalid" and item.data is not None:
        _plain(item, item.data)  # our own disk may have spoiled it: then the tool's file still has it
    _park(setting, item, problem.detail or problem.title)
    return "parked"


def _solve_session(setting: UploadContext, item: SessionState, problem: wire.Problem) -> str:
    if problem.type in _WAITING:
        return _WAITING[problem.type]
    if (problem.revision or 0) > max(item.revision + wire.STEP, wire.FREE_REVISION):
        _park(setting, item, f"the endpoint names revision {problem.revision}, above which there may be none")
        return "parked"
    if problem.type == "stale":
        setting.spool.catalog.raise_revision(item.id, problem.revision or item.revision, setting.now_ms())
        return "healed"
    _park(setting, item, problem.detail or problem.title)
    return "parked"


def _park(setting: UploadContext, item: Item, reason: str) -> None:
    if isinstance(item, SessionState):
        setting.spool.outbox.park_session(item.id, item.revision, reason)
    else:
        setting.spool.outbox.park_segment(item, reason)


def _add(one: BatchResult, other: BatchResult) -> BatchResult:
    return BatchResult(
        sessions=one.sessions + other.sessions,
        segments=one.segments + other.segments,
        bytes=one.bytes + other.bytes,
        parked=one.parked + other.parked,
        healed=one.healed + other.healed,
        more=other.more,
    )
