"""How `verify` finds what is not safe."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID

from sessiond.cli.lookup import check_tool, endpoint_url, find_session
from sessiond.cli.streams import open_client
from sessiond.cli.verified import Problem, Verified, VerifiedTool, archive_problem
from sessiond.clock import now_ms
from sessiond.config import Config, Loaded, state_dir
from sessiond.config.units import parse_backfill
from sessiond.daemon.resources import terms_of
from sessiond.device import first_start_ms, identify
from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import NotFound, ReadError, Refused, Torn
from sessiond.ingest import Index, Location
from sessiond.ingest.context import ReadContext
from sessiond.ingest.verify_files import FileChecker, FileVerdict
from sessiond.privacy import Exclusion, Masking
from sessiond.reader import Digest
from sessiond.restored import RestoredSessions
from sessiond.sources import find_roots
from sessiond.sources.damaged import DAMAGED
from sessiond.spool import NAME, Spool
from sessiond.spool.confirmation import Confirmations, Unconfirmed
from sessiond.spool.rows import StreamState
from sessiond.spool.safety import State
from sessiond.spool.verification import Claim, Claims
from sessiond.state import has_archive
from sessiond.upload.confirm import contiguous_end, count_equal
from sessiond.upload.read_back import distrust
from sessiond.upload.verify import Comparison, apply_comparison, compare
from sessiond.watch.scan import scan

REASONS = {
    State.WAITING: "is on its way to the endpoint",
    State.ARCHIVED: "is only in the built-in archive so far",
    State.PARKED: "has a part that the endpoint refuses: sessiond queue",
    State.LOST: "has bytes that are neither in the tool's file nor at the endpoint: sessiond queue",
}
STREAMS = 500
"""Streams whose digests are asked for at once."""


def verify(args: argparse.Namespace, loaded: Loaded, *, repair: bool) -> Verified:
    """Compare everything that the arguments choose. With `repair`, have what the endpoint lacks pushed again.

    Raises: NotFound if nothing was captured yet, EndpointError, StateError.
    """
    directory = state_dir(loaded.config)
    if not os.path.exists(os.path.join(directory, NAME)):
        raise NotFound("nothing has been captured yet", hint="start it: sessiond run")
    with ExitStack() as closing:
        spool = Spool(directory, readonly=not args.repair)
        closing.callback(spool.close)
        device = identify(directory).device_id
        client = closing.enter_context(open_client(spool, loaded.config, args.environ, device))
        return _Verifier(args, loaded.config, spool, client).run(repair=repair)


class _Verifier:
    """One comparison."""

    def __init__(self, args: argparse.Namespace, config: Config, spool: Spool, client: ReadClient) -> None:
        self._args, self._config, self._spool, self._client = args, config, spool, client
        if args.tool is not None:
            check_tool(args.tool, {each.tool for each in spool.stats.tools()})
        self._chosen = {str(find_session(spool, each).uuid) for each in args.id} or None
        self._url = endpoint_url(spool, config)
        device = identify(state_dir(config))
        self._machine_id = config.machine_id or device.machine_id
        self._roots = find_roots(config, args.environ)
        home = args.environ.get("HOME") or os.path.expanduser("~")
        terms = terms_of(config, args.environ, device)
        age = parse_backfill(config.backfill)
        self._checker = FileChecker(
            spool=spool,
            reading=ReadContext(digest=Digest(device.seed), now_ms=now_ms(), scratch=state_dir(config)),
            masking=Masking(terms, os.path.join(state_dir(config), "rules")),
            exclusion=Exclusion(config.exclude, home),
            restored=RestoredSessions(state_dir(config)),
            machine_id=self._machine_id,
            oldest_ms=None if age is None else first_start_ms(state_dir(config)) - int(age * 1000),
        )
        self._problems: list[Problem] = []
        self._numbers: dict[str, Counter[str]] = {}
        self._different: list[Claim] = []
        """Streams of which the endpoint has other bytes than the tool's file, or than were captured of it."""

    def run(self, *, repair: bool) -> Verified:
        """Compare, and store what is to be pushed again. Raises: EndpointError, StateError."""
        for comparison in compare(
            self._spool, self._client, self._machine_id, tool=self._args.tool, sessions=self._chosen
        ):
            result = comparison
        self._check_sessions(result)
        self._check_archive()
        self._check_files(result.expired)
        self._store(result, repair=repair)
        found = sorted(self._numbers.items())
        tools = [VerifiedTool(tool=tool, **{name: numbers[name] for name in _NUMBERS}) for tool, numbers in found]
        problems = self._problems
        return Verified(complete=not problems, records=result.records, tools=tools, problems=problems, repaired=0)

    # Sessions

    def _check_sessions(self, result: Comparison) -> None:
        with self._spool.snapshot():
            states, others = self._spool.safety.states(self._url)
            sessions = [(str(each.uuid), each.tool) for each in self._spool.catalog.sessions()]
        lacking: dict[str, list[Claim]] = {}
        for claim in result.wrong:
            lacking.setdefault(claim.session, []).append(claim)
        for session, tool in sessions:
            if not self._is_chosen(session, tool):
                continue
            self._count(tool, "sessions")
            state = states.get(session, others)
            if session in lacking:
                names = ", ".join(
                    f"stream {claim.name}" if claim.stream else "its record" for claim in lacking[session]
                )
                self._add(tool, f"is not complete at the endpoint, which lacks {names}", session)
            elif state in REASONS:
                self._add(tool, REASONS[state], session)
            else:
                self._count(tool, "not_kept" if state is State.EXPIRED or session in result.expired else "safe")

    def _check_archive(self) -> None:
        """Add what only the built-in archive has: after a loss of the spool, its sessions are in no other list."""
        if self._chosen is not None or self._args.tool or not (self._url and has_archive(state_dir(self._config))):
            return
        with self._spool.snapshot():
            archive = self._spool.safety.archive()
        if problem := archive_problem(archive):
            self._add("", problem)

    def _is_chosen(self, session: str, tool: str) -> bool:
        return (self._args.tool in (None, tool)) and (self._chosen is None or session in self._chosen)

    def _count(self, tool: str, name: str) -> None:
        self._numbers.setdefault(tool, Counter())[name] += 1

    def _add(self, tool: str, what: str, session: str | None = None, path: str | None = None) -> None:
        self._problems.append(Problem(tool=tool, session=session, path=path, what=what))

    # Files

    def _check_files(self, expired: set[str]) -> None:
        digests = self._digests(expired) if self._args.deep else {}
        compared = self._compare_files(digests)
        self._compare_copies({number: found for number, found in digests.items() if number not in compared})

    def _compare_files(self, digests: dict[int, tuple[Claim, wire.RemotePosition]]) -> set[int]:
        """Compare the tools' files with what was captured; with `digests`, their bytes with those of the endpoint.

        Return the rows of the streams whose bytes were compared.
        """
        compared: set[int] = set()
        for location in self._locations():
            tool = location.source.tool
            verdict, reason = self._checker.check(location)
            if verdict is FileVerdict.NONE:
                continue
            self._count(tool, "files")
            if verdict is not FileVerdict.CAPTURED:
                self._count(tool, "not_captured")
                what = {
                    FileVerdict.CHANGED: "has changed since it was captured",
                    FileVerdict.NEW: "is not captured yet",
                }.get(verdict, f"can't be read: {reason}")
                self._add(tool, f"{location.path} {what}", path=location.path)
            elif digests:
                compared.update(self._compare(location, digests))
        return compared

    def _locations(self) -> Iterator[Location]:
        """Iterate over the files of the chosen tools, or those that the chosen sessions were captured from."""
        seen = set[tuple[str, str]]()
        index = Index(self._roots)
        for path in self._paths():
            for location in index(path):
                key = location.source.tool, location.path
                if key not in seen and self._args.tool in (None, location.source.tool):
                    seen.add(key)
                    yield location

    def _paths(self) -> Iterator[str]:
        if self._chosen is None:
            for _, root in self._roots:
                yield from (path for path, _ in scan(root))
            return
        for identity in sorted(self._chosen):
            session = self._spool.catalog.session(UUID(identity))
            assert session is not None
            for stream in self._streams(session.id):
                yield from (file.path.partition("::")[0] for file in self._spool.catalog.files(stream.id))

    def _streams(self, session: int) -> list[StreamState]:
        return [*self._spool.catalog.streams(session), *self._spool.catalog.side_streams(session)]

    def _compare(self, location: Location, digests: dict[int, tuple[Claim, wire.RemotePosition]]) -> Iterator[int]:
        """Compare the bytes of a file with the endpoint's; iterate the rows of its streams."""

        def remote(stream: StreamState) -> wire.RemotePosition | None:
            found = digests.get(stream.id)
            if found is None or (found[1].generation, found[1].length) != (stream.generation, stream.folded):
                return None
            return found[1]

        def fetch(stream: StreamState) -> Iterator[bytes]:
            claim = digests[stream.id][0]
            return self._client.stream(
                self._machine_id, UUID(claim.session), claim.name, generation=stream.generation, end=stream.folded
            )

        try:
            for number, same in self._checker.compare(location, remote, fetch):
                self._count(location.source.tool, "compared")
                yield number
                if not same:
                    claim = digests[number][0]
                    self._different.append(claim)
                    what = f"the endpoint has other bytes of stream {claim.name} than {location.path}"
                    self._add(location.source.tool, what, claim.session, location.path)
        except (ReadError, Torn, OSError, *DAMAGED) as error:
            self._add(location.source.tool, f"{location.path} can't be read: {error}", path=location.path)

    def _compare_copies(self, digests: dict[int, tuple[Claim, wire.RemotePosition]]) -> None:
        """Read what only the endpoint has, because the tool deleted its file, and compare it with what was queued."""
        confirmations, digest = Confirmations(self._spool.connection), self._checker.reading.digest
        for number in sorted(digests.keys() & confirmations.only_copies()):
            claim = digests[number][0]
            extents = confirmations.queued(number)
            # A stream whose extents are not all known can't be compared to its end.
            known = min(contiguous_end(extents), claim.acked)
            stored = Unconfirmed(
                stream=number,
                session=UUID(claim.session),
                name=claim.name,
                generation=claim.generation,
                length=claim.acked,
            )
            try:
                equal = max(count_equal(self._client, self._machine_id, stored, extents, digest), default=0)
            except NotFound:
                equal = 0
            except Refused:  # a token that only pushes: what the endpoint has was compared by length
                return
            self._count(claim.tool, "compared")
            if equal < known:
                self._different.append(claim)
                what = (
                    f"the endpoint has other bytes of stream {claim.name} than were captured; the tool's file is gone"
                )
                self._add(claim.tool, what, claim.session)

    def _digests(self, expired: set[str]) -> dict[int, tuple[Claim, wire.RemotePosition]]:
        """Return what the endpoint has of each stream that is called safe, by the row of the stream."""
        claims = [
            claim
            for claim in Claims(self._spool.connection).claims(self._args.tool, self._chosen)
            if claim.stream is not None and claim.session not in expired
        ]
        found: dict[int, tuple[Claim, wire.RemotePosition]] = {}
        for start in range(0, len(claims), STREAMS):
            some = claims[start : start + STREAMS]
            keys = [wire.StreamKey(session=UUID(claim.session), stream=claim.name) for claim in some]
            for claim, position in zip(some, self._client.offsets(self._machine_id, keys), strict=True):
                if position is not None and claim.stream is not None:
                    found[claim.stream] = claim, position
        return found

    # Repair

    def _store(self, result: Comparison, *, repair: bool) -> None:
        """Store the result, and have what differs pushed again; the scan that follows captures what is missing."""
        if not self._args.repair:
            return
        whole = self._args.tool is None and self._chosen is None
        apply_comparison(self._spool, result, self._url, now_ms() if whole else None, repair=repair)
        if not repair:
            return
        with self._spool.transaction():
            for claim in self._different:
                distrust(self._spool, claim)
            self._spool.outbox.retry()
            self._spool.archived.retry()


_NUMBERS = ("sessions", "safe", "not_kept", "files", "not_captured", "compared")
