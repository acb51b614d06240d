"""The promises of the project, against a model: a tool that changes its file in every way, a daemon that dies anywhere,
an endpoint that fails, loses data and lies. …
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress

import httpx
import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sessiond import zstd
from sessiond.endpoint.dictionary import ENCODING, FEATURE
from sessiond.endpoint.server import Running, accounts, keeping, running
from sessiond.errors import EndpointError
from sessiond.ingest.forget import erase_forgotten
from sessiond.ingest.pipeline import decode
from sessiond.session import Fold
from sessiond.sources.claude_code import ClaudeCode
from sessiond.spool import Spool
from sessiond.spool.expiries import ONLY_HERE
from sessiond.spool.forgotten import KEPT_MS
from sessiond.spool.safety import State
from sessiond.upload.read_back import ROUNDS, read_back
from support.harness import NOW_MS, TOKEN, DaemonHarness, claude, encode, pushed
from support.power import CrashingSpool, Killed, cut_power

SESSIONS = [f"5f1d7c1e-0000-4000-8000-00000000000{n}" for n in range(2)]
ENDPOINTS = ["first", "second", "archive"]
SIDE_FILE = "tool-results/toolu_01.txt"
FOLDERS = ["-home-dev-project", "-home-dev-elsewhere"]


class Machine(RuleBasedStateMachine):
    """One home, one daemon, one endpoint, two sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.base = tempfile.mkdtemp(prefix="sessiond-machine-")
        self.contexts: dict[str, AbstractContextManager[Running]] = {}
        self.servers: dict[str, Running] = {}
        for name in ENDPOINTS:
            self.serve(name)
        self.current = "first"
        self.changed_behind_us = False
        """Whether the endpoint lost something since the daemon heard of it last."""
        self.replaced = 0
        """How often an endpoint was replaced; `replaced_before_copy`: of those, before the spool was copied."""
        self.replaced_before_copy = 0
        self.harness = DaemonHarness(self.base, self.servers[self.current], open_spool=CrashingSpool)
        self.numbers = itertools.count()
        self.folder = dict.fromkeys(SESSIONS, FOLDERS[0])
        self.seen: dict[str, list[bytes]] = {session: [] for session in SESSIONS}
        self.forgets = False
        """Whether the user erases sessions in this run. Nothing else is tested of an erased one."""
        self.forgetful = False
        self.let_go = False
        """Whether an endpoint has let sessions go. What the archive has of them is not copied once more."""
        self.left: dict[str, bytes] = {}
        """The lines that sessions had when the endpoint let them go."""
        self.rotten = False
        """Whether the endpoint has changed bytes that it stored, and no comparison has found that yet."""
        self.configure()

    @initialize(forgets=st.sampled_from([False, False, True]))
    def choose(self, forgets: bool) -> None:
        self.forgets = forgets

    def serve(self, name: str, port: int = 0) -> None:
        """Start an endpoint with the data that is stored under its name."""
        self.contexts[name] = running(os.path.join(self.base, name), token=TOKEN, port=port)
        self.servers[name] = self.contexts[name].__enter__()

    def configure(self) -> None:
        """Start the daemon with the presently configured endpoint."""
        self.harness.endpoint, self.harness.archive = self.servers[self.current], self.servers["archive"]
        self.harness.address = "" if self.current == "archive" else self.harness.endpoint.url
        self.harness.close()
        self.boot()

    # The tool

    def path(self, session: str) -> str:
        return os.path.join(self.harness.home, ".claude/projects", self.folder[session], f"{session}.jsonl")

    def content(self, session: str) -> bytes:
        try:
            with open(self.path(session), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def lines(self, session: str, count: int) -> bytes:
        made = b""
        for number in itertools.islice(self.numbers, count):
            role = "assistant" if number % 2 else "user"
            made += encode(claude(session, number, role=role, text=f"said {number} " + "é" * (number % 50)))
        return made

    def put(self, session: str, content: bytes, mode: str = "wb") -> None:
        os.makedirs(os.path.dirname(self.path(session)), exist_ok=True)
        with open(self.path(session), mode) as file:
            file.write(content)

    @rule(session=st.sampled_from(SESSIONS), count=st.sampled_from([1, 2, 3, 4, 5, 150]))  # 124 fill a page of a fold
    def append(self, session: str, count: int) -> None:
        self.put(session, self.lines(session, count), "ab")

    @rule(session=st.sampled_from(SESSIONS), cut=st.floats(0.05, 0.95), between=st.booleans())
    def append_in_halves(self, session: str, cut: float, between: bool) -> None:
        line = self.lines(session, 1)
        at = max(1, int(len(line) * cut))
        self.put(session, line[:at], "ab")
        if between:
            self.ingest(session)
        self.put(session, line[at:], "ab")

    @rule(session=st.sampled_from(SESSIONS), how=st.sampled_from(["same", "longer", "other"]))
    def replace_by_rename(self, session: str, how: str) -> None:
        old = self.content(session)
        new = old if how == "same" else old + self.lines(session, 2) if how == "longer" else self.lines(session, 3)
        if not new:
            return
        os.makedirs(os.path.dirname(self.path(session)), exist_ok=True)
        with open(self.path(session) + ".tmp", "wb") as file:
            file.write(new)
        os.replace(self.path(session) + ".tmp", self.path(session))

    @rule(session=st.sampled_from(SESSIONS), keep=st.integers(0, 3), longer=st.booleans())
    def rewrite_in_place(self, session: str, keep: int, longer: bool) -> None:
        """Rewrite the file with the same head, longer or shorter."""
        old = self.content(session)
        new = b"".join(old.splitlines(keepends=True)[:keep]) + self.lines(session, 1)
        while longer and len(new) <= len(old):
            new += self.lines(session, 1)
        self.put(session, new)

    @rule(session=st.sampled_from(SESSIONS), data=st.data())
    def edit_in_place(self, session: str, data: st.DataObject) -> None:
        """Change bytes in the middle without changing the size; sometimes restore the mtime."""
        content = self.content(session)
        at = content.find(b"said ")
        if at < 0:
            return
        before = os.stat(self.path(session))
        with open(self.path(session), "r+b") as file:
            file.seek(at)
            file.write(data.draw(st.sampled_from([b"SAID", b"saId"])))
        if data.draw(st.booleans()):
            os.utime(self.path(session), ns=(before.st_atime_ns, before.st_mtime_ns))

    @rule(session=st.sampled_from(SESSIONS), keep=st.floats(0, 1))
    def truncate(self, session: str, keep: float) -> None:
        content = self.content(session)
        if content:
            os.truncate(self.path(session), int(len(content) * keep))

    @rule(session=st.sampled_from(SESSIONS))
    def delete(self, session: str) -> None:
        if os.path.exists(self.path(session)):
            os.unlink(self.path(session))

    @rule(session=st.sampled_from(SESSIONS), more=st.booleans())
    def move(self, session: str, more: bool) -> None:
        """Move the file to another project's directory, as when a project is renamed."""
        old = self.path(session)
        self.folder[session] = FOLDERS[1 - FOLDERS.index(self.folder[session])]
        if os.path.exists(old):
            os.makedirs(os.path.dirname(self.path(session)), exist_ok=True)
            os.rename(old, self.path(session))
            if more:
                self.append(session, 1)

    @rule(session=st.sampled_from(SESSIONS))
    def reuse_inode(self, session: str) -> None:
        """Delete the file and create it again at once: the filesystem often reuses the inode."""
        if self.content(session):
            os.unlink(self.path(session))
            self.put(session, self.lines(session, 4))

    def side_file(self, session: str) -> str:
        return os.path.join(self.harness.home, ".claude/projects", FOLDERS[0], session, SIDE_FILE)

    @rule(session=st.sampled_from(SESSIONS), how=st.sampled_from(["append", "replace", "truncate", "delete"]))
    def change_side_file(self, session: str, how: str) -> None:
        """A side file may end anywhere, and its session may not be there, or not yet."""
        path, data = self.side_file(session), f"output {next(self.numbers)}\nwithout an end".encode()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if how == "delete" or (how == "truncate" and os.path.exists(path)):
            if os.path.exists(path):
                os.unlink(path) if how == "delete" else os.truncate(path, os.path.getsize(path) // 2)
            return
        with open(path, "ab" if how == "append" else "wb") as file:
            file.write(data)

    # The daemon

    def note_seen(self, session: str) -> None:
        """Note what the daemon captured, so it may not get lost. It captures nothing of a source that is off."""
        if not self.harness.enabled:
            return
        content = self.content(session)
        self.seen[session].append(content[: content.rfind(b"\n") + 1])

    @rule(session=st.sampled_from(SESSIONS))
    def ingest(self, session: str) -> None:
        """Handle an event. (If no rule does this after a change, the event was lost.)"""
        before = self.content(session)
        self.harness.ingest(self.path(session))
        if before:
            self.note_seen(session)

    @rule()
    def rescan(self) -> None:
        self.harness.scan()
        for session in SESSIONS:
            if self.content(session):
                self.note_seen(session)

    @rule(steps=st.integers(0, 12), session=st.sampled_from(SESSIONS), pushing=st.booleans())
    def kill(self, steps: int, session: str, pushing: bool) -> None:
        """Die in the middle of a scan or a push, before or after any commit."""
        assert isinstance(self.harness.spool, CrashingSpool)
        self.harness.spool.steps = steps
        try:
            if pushing:
                self.harness.push()
            else:
                self.harness.ingest(self.path(session))
        except (Killed, EndpointError):
            pass
        self.die()

    @rule(back=st.integers(0, 4), torn=st.booleans())
    def cut_power(self, back: int, torn: bool) -> None:
        """Cut the power: commits that the disk had not synced are lost, whatever was pushed since."""
        image = os.path.join(self.base, "image")
        lost = cut_power(self.harness.state, image, back, torn=torn)
        self.harness.kill()
        shutil.rmtree(self.harness.state)
        os.rename(image, self.harness.state)
        self.boot()
        # Bytes of a rewritten file that were in a lost commit exist nowhere any more.
        self.forgetful = self.forgetful or lost > 0
        # A lost commit may be the one that knew of another endpoint, or of a restored one.
        self.changed_behind_us |= lost > 0 and self.replaced > 0

    @precondition(lambda self: self.forgets)
    @rule(session=st.sampled_from(SESSIONS), steps=st.none() | st.integers(0, 6), pushing=st.booleans())
    def forget(self, session: str, steps: int | None, pushing: bool) -> None:
        """The user erases a session everywhere. The daemon may die meanwhile, and the endpoint may be away."""
        with self.harness.spool.transaction():
            self.harness.spool.forgotten.order([session], self.harness.now_ms, everywhere=True)
        assert isinstance(self.harness.spool, CrashingSpool)
        self.harness.spool.steps = steps
        try:
            self.harness.forget(session)
            if pushing:
                self.harness.push()
        except (Killed, EndpointError):
            pass
        self.harness.spool.steps = None
        if steps is not None:
            self.die()

    def erased_at(self, name: str, session: str) -> bool:
        """Return whether an endpoint has a tombstone of a session."""
        with self.servers[name].store.read() as db:
            return db.execute("SELECT 1 FROM forgotten WHERE session = ?", (session,)).fetchone() is not None

    def boot(self) -> None:
        """Start the daemon, which takes time: no revision is made twice in one millisecond."""
        self.harness.now_ms += 1000
        self.harness.open()

    def die(self) -> None:
        """End as by SIGKILL, and start again."""
        self.harness.kill()
        self.boot()

    @rule()
    def restart(self) -> None:
        self.harness.close()
        self.boot()

    @rule()
    def wipe_spool(self) -> None:
        """Lose the spool: bytes that were only in it are gone, all others are found again."""
        self.harness.close()
        for name in os.listdir(self.harness.state):
            if name.startswith("spool.db"):
                os.unlink(os.path.join(self.harness.state, name))
        self.boot()
        self.forgetful = True

    @rule()
    def keep_spool_copy(self) -> None:
        self._copy(self.harness.state, "old-state")
        self.replaced_before_copy = self.replaced

    @precondition(lambda self: os.path.exists(os.path.join(self.base, "old-state")))
    @rule()
    def restore_old_spool(self) -> None:
        """Restore a backup of the machine: our state is older than the endpoint's."""
        self.harness.close()
        shutil.rmtree(self.harness.state)
        shutil.copytree(os.path.join(self.base, "old-state"), self.harness.state)
        self.boot()
        self.forgetful = True
        self.changed_behind_us |= self.replaced > self.replaced_before_copy

    def _copy(self, directory: str, name: str) -> None:
        self.harness.close()
        shutil.rmtree(os.path.join(self.base, name), ignore_errors=True)
        shutil.copytree(directory, os.path.join(self.base, name))
        self.boot()

    # The endpoint

    @rule()
    def forget_dictionary(self) -> None:
        """Change the endpoint's dictionary of this device to another one than the device has."""
        self.harness.forget_dictionary()

    @rule(able=st.booleans())
    def change_version(self, able: bool) -> None:
        """Switch the endpoint between versions with and without dictionaries."""
        self.harness.transport.withheld = frozenset() if able else frozenset({FEATURE})

    @rule(
        fate=st.sampled_from(
            [
                "acked",
                "ack lost",
                "down",
                "429",
                "401",
                "html",
                "halved",
                "lies",
                "disputes",
                "lying offsets",
                "415",
                "501",
            ]
        )
    )
    def push(self, fate: str) -> None:
        self.push_under(None if fate == "acked" else FATES[fate])

    def push_under(self, fate: Callable[..., httpx.Response] | None) -> None:
        self.harness.transport.fate = fate
        before = len(self.harness.transport.delivered)
        try:
            self.harness.push()
            # Only an answer of the endpoint itself shows that it lost something, not one that a fate invents.
            if {"/v1", "/v1/push"}.intersection(self.harness.transport.delivered[before:]):
                self.changed_behind_us = False
        except EndpointError:
            pass
        finally:
            self.harness.transport.fate = None

    @rule(which=st.integers(0, 5))
    def push_with_a_rejected_item(self, which: int) -> None:
        """Push to an endpoint that accepts all but one item and never accepts that one, which is parked."""

        def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
            if request.url.path != "/v1/push":
                return send()
            lines = _lines(request)
            answer: dict[str, object] = {}
            results: list[dict[str, object]] = []
            refused = which % len(lines)
            del lines[refused]
            if lines:
                headers = {name: value for name, value in request.headers.items() if name != "content-length"}
                headers["content-encoding"] = "zstd"
                body = zstd.compress(b"\n".join(lines) + b"\n", 3)
                rest = httpx.Request(request.method, request.url, headers=headers, content=body)
                answer = msgspec.json.decode(self.harness.transport.deliver(rest).read())
                results = answer.pop("results")
            never: dict[str, object] = {"type": "invalid", "title": "no such thing, please"}
            results.insert(refused, {"status": "problem", "problem": never})
            return _answer(request, results, **answer)

        self.push_under(fate)

    @rule(session=st.sampled_from(SESSIONS))
    def append_during_a_push(self, session: str) -> None:
        """The tool appends while a push is on its way. The endpoint is asked who it is, so there is a request."""
        self.harness.retrying.identify_again()

        def fate(_: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
            self.append(session, 1)
            self.harness.ingest(self.path(session))
            return send()

        self.push_under(fate)

    @rule()
    def keep_endpoint_copy(self) -> None:
        """Back the endpoint up while it runs."""
        kept = os.path.join(self.base, f"old-{self.current}")
        os.makedirs(kept, exist_ok=True)
        source = sqlite3.connect(os.path.join(self.base, self.current, "endpoint.db"))
        copy = sqlite3.connect(os.path.join(kept, "endpoint.db"))
        source.backup(copy)
        source.close()
        copy.close()

    @precondition(lambda self: os.path.exists(os.path.join(self.base, f"old-{self.current}")))
    @rule(unseen=st.booleans())
    def restore_old_endpoint(self, unseen: bool) -> None:
        """Restore the endpoint from an older copy: it has lost what it acknowledged since."""
        self._replace_endpoint(os.path.join(self.base, f"old-{self.current}"), unseen)

    @rule()
    def let_sessions_go(self) -> None:
        """The endpoint lets all sessions go, as if they were too old. Their next revisions are stored again."""
        store = self.servers[self.current].store
        if not accounts.list_users(store):
            return
        accounts.set_user(store, "default", keep_days=36_500)
        if keeping.expire(store, 1 << 52):
            self.forgetful = self.changed_behind_us = self.let_go = True
            self.left = {session: self.whole(session) for session in SESSIONS}
            self.replaced += 1  # a spool from before this does not know it

    @precondition(lambda self: self.let_go)
    @rule()
    def verify_in_another_process(self) -> None:
        """`sessiond verify --repair` stores, beside the daemon, which sessions the endpoint has let go."""
        spool = Spool(self.harness.state)
        try:
            with spool.transaction():
                for session in SESSIONS:
                    answer = self.harness.get(f"/v1/sessions/testbox/{session}").json()
                    if answer.get("type") == "expired" and spool.forgotten.is_captured(session):
                        spool.outbox.expire(session, self.harness.now_ms)
        finally:
            spool.close()

    @rule(unseen=st.booleans())
    def empty_endpoint(self, unseen: bool) -> None:
        """Empty the endpoint, which starts again as another one under the same address."""
        self._replace_endpoint(None, unseen)

    def _replace_endpoint(self, data: str | None, unseen: bool) -> None:
        """Replace the data of an endpoint. `unseen`: the daemon runs on, and its next request finds another store."""
        directory = os.path.join(self.base, self.current)
        self.contexts[self.current].__exit__(None, None, None)
        shutil.rmtree(directory)
        if data is not None:
            shutil.copytree(data, directory)
        self.forgetful = self.changed_behind_us = True
        self.replaced += 1
        if unseen:
            self.serve(self.current, httpx.URL(self.servers[self.current].url).port or 0)
            self.harness.endpoint, self.harness.archive = self.servers[self.current], self.servers["archive"]
        else:
            self.serve(self.current)
            self.configure()

    @precondition(lambda self: self.current != "archive" and not self.generations("archive"))
    @rule(which=st.integers(0, 5), readable=st.booleans())
    def change_stored_bytes(self, which: int, readable: bool) -> None:
        """The endpoint's disk rots: it returns other bytes, or none, and reports the digest stored beside them."""
        store = os.path.join(self.base, self.current, "endpoint.db")
        with closing(sqlite3.connect(store, isolation_level=None)) as db:
            chunks = db.execute("SELECT rowid, frame FROM chunks").fetchall()
            if chunks:
                row, frame = chunks[which % len(chunks)]
                other = frame[: len(frame) // 2]
                with suppress(zstd.Undecodable):  # it was spoiled before
                    changed = bytearray(zstd.decompress(frame, 1 << 24))
                    changed[len(changed) // 2] ^= 1
                    other = zstd.compress(bytes(changed)) if readable else other
                db.execute("UPDATE chunks SET frame = ? WHERE rowid = ?", (other, row))
                self.rotten = self.forgetful = True

    def read_back(self) -> None:
        """Compare all that is called safe with the endpoint's bytes, as the daemon does in two months."""
        harness = self.harness
        for _ in range(1 + ROUNDS):  # a round that was begun ends, and each stream is read in one of the next
            for _ in read_back(harness.uploading, 1 << 30):
                pass
        harness.settle()

    # Faults that follow one another more often than they would by chance

    @rule(session=st.sampled_from(SESSIONS), count=st.integers(0, 2))
    def push_after_a_backup(self, session: str, count: int) -> None:
        """The endpoint's backup has a part of what is pushed: a restored one lacks the rest."""
        self.append_during_a_push(session)
        self.keep_endpoint_copy()
        for _ in range(count):
            self.ingest(session)
            self.push_under(None)

    @precondition(lambda self: os.path.exists(os.path.join(self.base, f"old-{self.current}")))
    @rule(back=st.integers(0, 4), torn=st.booleans(), unseen=st.booleans(), scans=st.booleans())
    def lose_both_sides(self, back: int, torn: bool, unseen: bool, scans: bool) -> None:
        """Cut the power here, restore the endpoint from its backup, and delete all files of the tool."""
        self.cut_power(back, torn)
        self.restore_old_endpoint(unseen)
        if scans:
            self.rescan()
        for session in SESSIONS:
            self.delete(session)

    @rule(name=st.sampled_from(["first", "second", "archive"]))
    def change_endpoint(self, name: str) -> None:
        """The user configures another endpoint, or none: then it is the built-in archive."""
        if name != self.current:
            self.current, self.forgetful, self.changed_behind_us = name, True, False
            self.configure()

    @rule(enabled=st.booleans())
    def switch_source(self, enabled: bool) -> None:
        """The user switches the source off, or on again."""
        self.harness.enabled = enabled
        self.harness.close()
        self.boot()

    # The promise

    @invariant()
    def nothing_is_half_done(self) -> None:
        """Check that the spool is consistent between two steps: no checkpoint is ahead of the stored bytes."""
        catalog = self.harness.spool.catalog
        for session in SESSIONS:
            state = catalog.session(uuid.UUID(session))
            for stream in [*catalog.streams(state.id), *catalog.side_streams(state.id)] if state else []:
                extents = catalog.extents(stream.id)
                position = 0
                for extent in extents:
                    assert extent.start == position
                    position = extent.end
                assert position == stream.folded
                assert stream.queued <= stream.folded

    @invariant()
    def what_is_reported_safe_is_at_the_endpoint(self) -> None:
        """Byte for byte, whatever happened: the digests of what was captured tell."""
        spool = self.harness.spool
        if self.changed_behind_us or self.rotten:
            return  # unknown until the endpoint is asked again
        for session in SESSIONS:
            state = spool.catalog.session(uuid.UUID(session))
            if state is None or state.record is None:
                continue  # bytes without a record are no session yet, and are not reported
            if spool.safety.session(state.id, self.harness.address) is not State.SAFE:
                continue
            stored = self.harness.get(f"/v1/sessions/testbox/{session}").json()
            assert stored["revision"] >= state.revision  # a power cut may have taken a later one from the spool
            if stored["revision"] == state.revision:
                assert stored["record"] == msgspec.to_builtins(state.record)
            for stream in [*spool.catalog.streams(state.id), *spool.catalog.side_streams(state.id)]:
                held = self.harness.held(session, stream.name, stream.generation) if stream.folded else b""
                for extent in spool.catalog.extents(stream.id):
                    same = self.harness.ingesting.digest(held[extent.start : extent.end]) == extent.digest
                    assert same, f"{stream.name}#{stream.generation} of {session} at {extent.start}: {len(held)} held"

    @invariant()
    def what_was_erased_is_nowhere(self) -> None:
        """Check that a session with a tombstone is not in the spool, and not at an endpoint.

        Of one that an endpoint listed, bytes may be kept that only the spool has. They are not reported safe.
        """
        spool = self.harness.spool
        for session in SESSIONS:
            if spool.forgotten.has(session):
                state = spool.catalog.session(uuid.UUID(session))
                assert state is None or spool.forgotten.is_kept(session)
                assert state is None or spool.safety.session(state.id, self.harness.address) is not State.SAFE
            for name in ENDPOINTS:
                if self.erased_at(name, session):
                    with self.servers[name].store.read() as db:
                        for table in ("sessions", "streams"):
                            query = f"SELECT count(*) FROM {table} WHERE session = ?"
                            assert db.execute(query, (session,)).fetchone()[0] == 0

    def check_erased(self, session: str) -> bool:
        """Return whether a session was erased. A tombstone in one place has reached all others by now.

        Only one that an endpoint listed is not ordered at another endpoint: the user of this machine has not.
        """
        here, there = self.harness.spool.forgotten.has(session), self.erased_at(self.current, session)
        if not here and not (there and self.content(session)):
            return there  # the tombstone is learned when something of the session is pushed
        assert here
        learned = "SELECT learned FROM forgotten WHERE session = ?"
        assert there or self.harness.spool.connection.execute(learned, (session,)).fetchone()[0]
        return True

    def assert_settled(self) -> None:
        """Check that nothing is under way: what is not safe is lost, and only because no place has it."""
        totals = self.harness.spool.stats.totals(self.harness.address)
        assert (totals.waiting, totals.archived, totals.parked, totals.archive.pending) == (0, 0, 0, 0)
        if self.current != "archive" and not self.let_go:
            for session, kept in self.generations("archive").items():
                here = self.generations(self.current)[session]
                for old in kept:
                    assert any(new.startswith(old) for new in here), "the archive has what the endpoint lacks"

    def generations(self, name: str) -> dict[str, list[bytes]]:
        """Map the sessions that an endpoint lists to the content of each generation of their main stream."""
        server, found = self.servers[name], {}
        headers = {"Authorization": f"Bearer {server.token}"}

        def get(path: str, **params: object) -> httpx.Response:
            return httpx.get(f"{server.url}{path}", headers=headers, params=params, verify=False, timeout=60)

        for item in get("/v1/sessions").json()["sessions"]:
            path = f"/v1/sessions/testbox/{item['record']['id']}/streams"
            streams = get(path).json()["streams"]
            mains = [stream for stream in streams if stream["name"] == "main"]
            numbers = [each["generation"] for stream in mains for each in stream["generations"]]
            found[item["record"]["id"]] = [get(f"{path}/main", generation=number).content for number in numbers]
        return found

    @rule()
    def settle(self) -> None:
        """All is well for a while, and somebody takes back into the queue what was parked.

        A tool that has emptied its file goes on: until then nothing is made of it, it may be half a rewrite.
        """
        for session in SESSIONS:
            if os.path.exists(self.path(session)) and b"\n" not in self.content(session):
                self.append(session, 1)
        with self.harness.spool.transaction():
            self.harness.spool.outbox.retry()
            self.harness.spool.archived.retry()
        if not self.harness.enabled:
            self.harness.retrying.identify_again()
            self.harness.settle(decide=self.give_up_expired)
            self.erase_kept()
            self.assert_settled()
            self.switch_source(True)
        self.harness.retrying.identify_again()  # an endpoint that has nothing to take is asked again within the hour
        self.harness.settle(decide=self.give_up_expired)
        self.erase_kept()
        if self.rotten:
            self.read_back()
        self.changed_behind_us = self.rotten = False
        self.assert_settled()
        held = self.harness.held_sessions()
        for session in SESSIONS:
            if self.check_erased(session):
                assert session not in held or not self.erased_at(self.current, session)
                continue
            if self.stays_away(session):
                continue
            whole = self.whole(session)
            if whole:
                assert self.harness.held(session) == whole
                self.check_record(session, whole, held)
            self.check_side_file(session)
            if not self.forgetful and session in held:
                streams = self.harness.get(f"/v1/sessions/testbox/{session}/streams").json()["streams"]
                (main,) = [stream for stream in streams if stream["name"] == "main"]
                numbers = [generation["generation"] for generation in main["generations"]]
                kept = [self.harness.held(session, generation=number) for number in numbers]
                for seen in self.seen[session]:
                    assert any(generation.startswith(seen) for generation in kept), "a generation was lost"

    def whole(self, session: str) -> bytes:
        """Return the complete lines of a session's file."""
        content = self.content(session)
        return content[: content.rfind(b"\n") + 1]

    def stays_away(self, session: str) -> bool:
        """Return whether the endpoint let a session go, which has not changed since: then it is not pushed again."""
        with self.harness.spool.snapshot():
            states, others = self.harness.spool.safety.states(self.harness.address)
        if states.get(session, others) is not State.EXPIRED:
            return False
        assert self.whole(session) in (b"", self.left[session]), "a change of the session was not pushed"
        return True

    def give_up_expired(self) -> None:
        """Drop what the endpoint does not keep and only this machine has, as the user may."""
        outbox = self.harness.spool.outbox
        expired = {segment.session for segment in outbox.parked()[1] if segment.parked == ONLY_HERE}
        with self.harness.spool.transaction():
            for session in expired:
                outbox.drop(session, self.harness.now_ms)

    def erase_kept(self) -> None:
        """Erase what is kept of sessions that an endpoint listed as erased, as after a month."""
        with self.harness.spool.transaction():
            expired = self.harness.spool.forgotten.expire(self.harness.now_ms + KEPT_MS)
        if expired:
            erase_forgotten(self.harness.ingesting)
            self.harness.settle(decide=self.give_up_expired)

    def check_side_file(self, session: str) -> None:
        path = self.side_file(session)
        known = self.harness.spool.catalog.session(uuid.UUID(session))
        if known is None or not os.path.exists(path) or not os.path.getsize(path):
            return  # a side file without its session waits, and an emptied one may be half of a rewrite
        with open(path, "rb") as file:
            assert self.harness.held(session, SIDE_FILE) == file.read()

    def check_record(self, session: str, whole: bytes, held: dict[str, dict]) -> None:
        fold = Fold()
        decode(ClaudeCode(), whole, fold, NOW_MS)
        if fold.started_ms is None:
            return  # nothing in it makes it a session (any more): the last record that was one stays, if there was one
        record = held[session]["record"]
        assert record["message_count"] == len(fold.messages)
        assert record["model"] == (fold.models[0] if fold.models else None)
        assert (
            msgspec.convert(record["started_at"], __import__("datetime").datetime).timestamp() * 1000 == fold.started_ms
        )

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.harness.close()
            for context in self.contexts.values():
                context.__exit__(None, None, None)
            shutil.rmtree(self.base)


def _ack_lost(_: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
    send().read()
    raise httpx.ReadError("the connection was cut")


def _down(request: httpx.Request, _: Callable[[], httpx.Response]) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def _status(status: int, text: str = "{}", kind: str = "application/problem+json") -> Callable[..., httpx.Response]:
    def fate(_: httpx.Request, __: Callable[[], httpx.Response]) -> httpx.Response:
        return httpx.Response(status, headers={"content-type": kind}, stream=httpx.ByteStream(text.encode()))

    return fate


def _no_dictionary(status: int) -> Callable[..., httpx.Response]:
    """Answer as a proxy that does not support dictionaries, whatever the endpoint says."""

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        encoded = request.headers.get("content-encoding") == ENCODING
        return _status(status)(request, send) if encoded else send()

    return fate


def _halved(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
    """Answer 400 to any push of more than one item, so that it has to be halved."""
    if request.url.path == "/v1/push" and len(_lines(request)) > 1:
        return _status(400)(request, send)
    return send()


def _lines(request: httpx.Request) -> list[bytes]:
    return pushed(request.headers["content-encoding"], request.content).split(b"\n")[:-1]


def _answer(request: httpx.Request, results: list[dict[str, object]], **more: object) -> httpx.Response:
    """Return an answer to a push. `more` is what else the endpoint answered, such as the batch before this one."""
    body = msgspec.json.encode(more | {"batch": request.headers["sessiond-batch"], "results": results})
    return httpx.Response(200, headers={"content-type": "application/json"}, stream=httpx.ByteStream(body))


def _lies(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
    """Accept nothing, and report another position for every append."""
    if request.url.path != "/v1/push":
        return send()
    results: list[dict[str, object]] = []
    for line in _lines(request):
        problem: dict[str, object] = {"type": "stale", "title": "no", "revision": 5}
        if b'"op":"append"' in line:
            offset = msgspec.json.decode(line)["offset"] + 7
            problem = {"type": "offset-mismatch", "title": "no", "generation": 0, "offset": offset, "sha256": "0" * 64}
        results.append({"status": "problem", "problem": problem})
    return _answer(request, results)


def _disputes(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
    """Accept no append, and say that it has as many bytes before it as the client believes, but others."""
    if request.url.path != "/v1/push":
        return send()
    results: list[dict[str, object]] = []
    for line in map(msgspec.json.decode, _lines(request)):
        problem: dict[str, object] = {"type": "stale", "title": "no", "revision": 5}
        if line["op"] == "append":
            at = {"generation": line["generation"], "offset": line["offset"], "after": "0" * 64}
            problem = {"type": "offset-mismatch", "title": "no", **at}
        results.append({"status": "problem", "problem": problem})
    return _answer(request, results)


def _lying_offsets(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
    """Report digests of other bytes, and fewer of them than there are."""
    answer = send()
    if request.url.path != "/v1/offsets" or answer.status_code != 200:
        return answer
    positions = msgspec.json.decode(answer.read())
    for each in positions["streams"]:
        if each["generation"] is not None:
            each |= {"after": "0" * 64, "length": each["length"] // 2}
    content = httpx.ByteStream(msgspec.json.encode(positions))
    return httpx.Response(200, headers={"content-type": "application/json"}, stream=content)


FATES: dict[str, Callable[..., httpx.Response]] = {
    "ack lost": _ack_lost,
    "down": _down,
    "429": _status(429),
    "401": _status(401),
    "html": _status(200, "<html>", "text/html"),
    "halved": _halved,
    "lies": _lies,
    "disputes": _disputes,
    "lying offsets": _lying_offsets,
    "415": _no_dictionary(415),
    "501": _no_dictionary(501),
}
