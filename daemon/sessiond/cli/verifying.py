"""How `verify` finds what is not safe."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from uuid import UUID

from sessiond.cli.lookup import check_tool, endpoint_url, find_session, nothing_captured
from sessiond.cli.streams import open_client
from sessiond.cli.take_back import take_back
from sessiond.cli.verified import REASONS, Problem, Verified, VerifiedTool, archive_problem
from sessiond.cli.verified_bytes import EndpointBytes, Positions
from sessiond.clock import now_ms
from sessiond.config import Config, Loaded, state_dir
from sessiond.config.units import parse_backfill
from sessiond.daemon.resources import terms_of
from sessiond.device import first_start_ms, identify
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import ReadError, Torn
from sessiond.ingest import Index, Location
from sessiond.ingest.context import ReadContext
from sessiond.ingest.verify_files import FileChecker, FileVerdict
from sessiond.privacy import Exclusion, Masking
from sessiond.reader import Digest
from sessiond.restored import RestoredSessions
from sessiond.sources import find_roots
from sessiond.sources.damaged import DAMAGED
from sessiond.spool import NAME, Spool
from sessiond.spool.rows import StreamState
from sessiond.spool.safety import State
from sessiond.spool.verification import Claim, Claims
from sessiond.state import has_archive
from sessiond.upload.compare_digests import Stated, compare_digests
from sessiond.upload.verify import Comparison, compare
from sessiond.watch.scan import scan

CHANGED = "has changed since it was captured"


def verify(args: argparse.Namespace, loaded: Loaded, *, repair: bool) -> Verified:
    """Compare everything that the arguments choose. What the endpoint lacks counts as waiting from then on.

    With `repair`, what is parked is tried again too.

    Raises: NotFound if nothing was captured yet, EndpointError, StateError.
    """
    directory = state_dir(loaded.config)
    if not os.path.exists(os.path.join(directory, NAME)):
        raise nothing_captured()
    with ExitStack() as stack:
        spool = Spool(directory, readonly=True)
        stack.callback(spool.close)
        device = identify(directory).device_id
        client = stack.enter_context(open_client(spool, loaded.config, args.environ, device))
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
        checker = FileChecker(
            spool=spool,
            reading=ReadContext(digest=Digest(device.seed), now_ms=now_ms(), scratch=state_dir(config)),
            masking=Masking(terms, os.path.join(state_dir(config), "rules")),
            exclusion=Exclusion(config.exclude, home),
            restored=RestoredSessions(state_dir(config)),
            machine_id=self._machine_id,
            oldest_ms=None if age is None else first_start_ms(state_dir(config)) - int(age * 1000),
        )
        self._bytes = EndpointBytes(spool=spool, client=client, machine_id=self._machine_id, checker=checker)
        self._problems: list[Problem] = []
        self._numbers: dict[str, Counter[str]] = {}
        self._different: list[Claim] = []
        """Streams of which the endpoint has other bytes than were pushed."""

    def run(self, *, repair: bool) -> Verified:
        """Compare, and store what is to be pushed again. Raises: EndpointError, StateError."""
        for comparison in compare(
            self._spool, self._client, self._machine_id, tool=self._args.tool, sessions=self._chosen
        ):
            result = comparison
        stated = self._compare_digests(result)
        self._check_sessions(result)
        self._check_archive()
        self._check_bytes(stated)
        whole = self._args.tool is None and self._chosen is None
        take_back(self._config, result, self._different, self._url, now_ms() if whole else None, retry=repair)
        found = sorted(self._numbers.items())
        tools = [VerifiedTool(tool=tool, **{name: numbers[name] for name in _NUMBERS}) for tool, numbers in found]
        problems = self._problems
        return Verified(complete=not problems, records=result.records, tools=tools, problems=problems, repaired=0)

    # Sessions

    def _check_sessions(self, result: Comparison) -> None:
        with self._spool.snapshot():
            states, others = self._spool.safety.states(self._url)
            sessions = [(str(each.uuid), each.tool) for each in self._spool.catalog.sessions()]
            bare = dict(Claims(self._spool.connection).unsettled_bare())
        lacking, different = _by_session(result.wrong), _by_session(self._different)
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
            elif session in different:
                names = ", ".join(f"stream {claim.name}" for claim in different[session])
                self._add(tool, f"has other bytes at the endpoint than were pushed, in {names}", session)
            elif state in REASONS:
                self._add(tool, REASONS[state], session)
            elif state is State.DROPPED:
                self._count(tool, "given_up")
            else:
                self._count(tool, "not_kept" if state is State.EXPIRED or session in result.expired else "safe")

        bare |= {claim.session: claim.tool for claim in (*result.wrong, *self._different) if claim.bare}
        for session, tool in sorted(bare.items()):
            if self._is_chosen(session, tool):
                self._add(tool, "is not complete at the endpoint, and has no messages yet", session)

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

    # Bytes

    def _compare_digests(self, result: Comparison) -> Stated:
        """Compare the digests of streams; add those of which the endpoint has less to what it lacks."""
        wrong = {(claim.session, claim.stream) for claim in result.wrong}
        with self._spool.reading():
            claims = [
                claim
                for claim in Claims(self._spool.connection).claims(self._args.tool, self._chosen)
                if claim.stream is not None
                and claim.session not in result.expired
                and (claim.session, claim.stream) not in wrong
            ]
        stated = Stated()
        for stated in compare_digests(self._spool, self._client, self._machine_id, claims, time.sleep):  # noqa: B007
            pass
        result.wrong.extend(stated.lacking)
        self._different.extend(stated.different)
        return stated

    def _check_bytes(self, stated: Stated) -> None:
        """Read bytes: with `--deep` of all streams, else where a length and a digest do not answer the question."""
        different = {claim.stream for claim in stated.different}
        positions = {row: found for row, found in stated.positions.items() if row not in different}
        compared = self._compare_files(positions if self._args.deep else {})
        ahead = {claim.stream for claim in stated.ahead}
        for row, (claim, _) in sorted(positions.items()):
            if row in compared or not (self._args.deep or row in ahead):
                continue
            same = self._bytes.compare_earlier(claim) if row in ahead else self._bytes.compare_copy(claim)
            if same is not None:
                self._count(claim.tool, "compared")
                compared.add(row)
            elif row in ahead:
                self._add_different(claim, "the endpoint has something else of stream {} than was pushed from here")
            if same is False:
                self._add_different(claim, "the endpoint has other bytes of stream {} than were captured")
        for claim in stated.length_only:
            if claim.stream not in compared:
                self._count(claim.tool, "by_length")
        for row in stated.equal - compared:
            self._count(stated.positions[row][0].tool, "by_digest")

    def _add_different(self, claim: Claim, what: str, path: str | None = None) -> None:
        self._different.append(claim)
        self._add(claim.tool, what.format(claim.name), claim.session, path)

    def _compare_files(self, positions: Positions) -> set[int | None]:
        """Compare the tools' files with what was captured; with `positions`, their bytes with those of the endpoint.

        Return the rows of the streams whose bytes were compared.
        """
        compared: set[int | None] = set()
        for location in self._locations():
            tool = location.source.tool
            verdict, reason = self._bytes.checker.check(location)
            if verdict is FileVerdict.NONE:
                continue
            self._count(tool, "files")
            if verdict is not FileVerdict.CAPTURED:
                self._count(tool, "not_captured")
                what = {
                    FileVerdict.CHANGED: CHANGED,
                    FileVerdict.NEW: "is not captured yet",
                }.get(verdict, f"can't be read: {reason}")
                self._add(tool, f"{location.path} {what}", path=location.path)
            elif positions:
                rows = set(self._compare(location, positions)) - compared  # several files may have the same stream
                self._numbers[tool]["compared"] += len(rows)
                compared |= rows
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

    def _compare(self, location: Location, positions: Positions) -> Iterator[int]:
        """Compare the bytes of a file with the endpoint's; iterate the rows of its streams."""
        try:
            for number, same in self._bytes.compare_file(location, positions):
                if same is None:
                    self._add(location.source.tool, f"{location.path} {CHANGED}", path=location.path)
                    continue
                yield number
                if not same:
                    claim = positions[number][0]
                    what = "the endpoint has other bytes of stream {} than " + location.path
                    self._add_different(claim, what, location.path)
        except (ReadError, Torn, OSError, *DAMAGED) as error:
            self._add(location.source.tool, f"{location.path} can't be read: {error}", path=location.path)


def _by_session(claims: Sequence[Claim]) -> dict[str, list[Claim]]:
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        found.setdefault(claim.session, []).append(claim)
    return found


_NUMBERS = ("sessions", "safe", "not_kept", "given_up", "files", "not_captured", "by_digest", "by_length", "compared")
