"""Wrong answers of an endpoint, by mistake or by malice: no data is lost, and no thread ends (rule 12)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import httpx
import msgspec
import pytest

from sessiond import state
from sessiond.config import Config
from sessiond.daemon import endpoint_state, outage, pusher
from sessiond.daemon.endpoint_state import EndpointState
from sessiond.daemon.engine import Engine, EngineOptions
from sessiond.daemon.messages import Cause, Retry, Stop
from sessiond.daemon.resources import Opening
from sessiond.endpoint import retry
from sessiond.endpoint.answers import parse_retry_after
from sessiond.endpoint.server import accounts, limits, running
from sessiond.endpoint.wire import FREE_GENERATION, FREE_REVISION, PROTOCOL, SERVICE, About, Limits, PushAnswer, Result
from sessiond.errors import EndpointError, Refused, Unreachable, WrongEndpoint
from sessiond.spool import health
from sessiond.spool.safety import State
from sessiond.upload import BatchResult, settle
from support.clock import ManualClock
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness, pushed, settings_of

OTHER = "00000000-5f1d-4000-8000-000000000002"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        made.write(CLAUDE, claude(SESSION, 1))
        made.settle()
        made.write(CLAUDE, claude(SESSION, 2))
        made.scan()
        yield made


def answering(result: dict) -> Callable[..., httpx.Response]:
    """Answer each line of a push with this result."""

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        if request.url.path != "/v1/push":
            return send()
        lines = pushed(request.headers["content-encoding"], request.content).splitlines()
        body = msgspec.json.encode({"batch": request.headers["sessiond-batch"], "results": [result] * len(lines)})
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=httpx.ByteStream(body))

    return fate


def problem(kind: str, **known: object) -> dict:
    return {"status": "problem", "problem": {"type": kind, "title": "no", **known}}


@pytest.mark.parametrize(
    "result",
    [
        {"status": "problem"},
        {"status": "stored", "problem": {"type": "invalid", "title": "no"}},
        problem("stale", revision=2**53),
        problem("stale", revision=-1),
        problem("offset-mismatch", generation=2**31, offset=0),
        problem("offset-mismatch", generation=-1, offset=0),
        problem("offset-mismatch", generation=0, offset=2**53),
        problem("offset-mismatch", generation=0, offset=-5),
    ],
)
def test_an_answer_that_makes_no_sense_moves_nothing(harness: DaemonHarness, result: dict) -> None:
    """It is a failure of the endpoint, and everything is still there to be pushed."""
    harness.transport.fate = answering(result)
    with pytest.raises(WrongEndpoint):
        harness.push()
    harness.transport.fate = None
    harness.settle()
    assert harness.held(SESSION).count(b"\n") == 2


def test_a_stream_at_the_limit_of_generations_is_parked_and_stops_no_other(
    harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored bytes stay readable, refused ones are listed, and the daemon does not try them without end."""
    monkeypatch.setattr(limits, "MAX_GENERATIONS", 3)
    for number in range(6):
        harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, text=f"version {number}"), mode="wb")
        for _ in range(5):
            harness.scan()
            for _ in range(10):
                if not harness.push().more:
                    break
            else:
                pytest.fail("it pushes without an end")
    (stream,) = harness.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]
    assert len(stream["generations"]) == 3
    assert b"version 1" in harness.held(SESSION)
    assert harness.spool.stats.waiting().parked > 0
    session = harness.spool.catalog.session(UUID(SESSION))
    assert session is not None
    assert harness.spool.safety.session(session.id) is State.PARKED
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1))
    harness.scan()
    while harness.push().more:
        pass
    assert harness.held(OTHER).count(b"\n") == 1


def answered(result: dict) -> PushAnswer:
    return PushAnswer(batch="batch", results=[msgspec.convert(result, Result)])


def test_the_largest_number_that_is_believed_can_still_be_counted_on_from(harness: DaemonHarness) -> None:
    """A lie is overtaken once the endpoint answers truthfully."""
    session = harness.spool.catalog.session(UUID(SESSION))
    assert session is not None
    settle(harness.uploading, [session], answered(problem("stale", revision=2**52 - 2**20)))
    segments = harness.spool.outbox.segments(1, 1)
    answer = problem("offset-mismatch", generation=2**30 - 2**20, offset=2**53 - 1, sha256="0" * 64)
    for _ in range(2):
        settle(harness.uploading, segments, answered(answer))
    harness.settle()
    assert harness.held(SESSION).count(b"\n") == 2


def test_a_position_that_an_answer_makes_up_gives_nothing_up(harness: DaemonHarness) -> None:
    """The tool has cut its file meanwhile, so only the endpoint and the outbox have these bytes."""
    path = Path(harness.home, CLAUDE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 4] + b"\n")
    lies = problem("offset-mismatch", generation=0, offset=len(whole) // 2 + 7, sha256="0" * 64)
    harness.transport.fate = answering(lies)
    harness.push()
    harness.transport.fate = None
    harness.settle()
    assert harness.held(SESSION, generation=0) == whole
    assert harness.spool.stats.totals(harness.address).lost == 0


@pytest.mark.parametrize(
    "nonsense",
    [
        {"status": "problem", "problem": {"type": "stale", "title": "no", "revision": 2**63}},
        {"status": "problem"},
        {"status": "kept"},
        problem("stale", revision=2**53 - 1),
        problem("offset-mismatch", generation=2**31 - 1, offset=0, sha256="0" * 64),
    ],
)
def test_a_result_that_cannot_be_decoded_parks_its_item_only(harness: DaemonHarness, nonsense: dict) -> None:
    """Items in the same push and in later pushes are not held back."""
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1))
    harness.scan()
    bad = []

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        answer = send()
        if request.url.path != "/v1/push" or bad:
            return answer
        content = msgspec.json.decode(answer.read())
        bad.extend(content["results"][:1])
        content["results"][0] = nonsense
        body = msgspec.json.encode(content)
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=httpx.ByteStream(body))

    harness.transport.fate = fate
    while harness.push().more:
        pass
    assert bad == [{"status": "stored"}]
    assert harness.held(OTHER).count(b"\n") == 1
    assert harness.held(SESSION).count(b"\n") == 2
    waiting = harness.spool.stats.waiting()
    assert (waiting.sessions, waiting.segments) == (0, 0)
    harness.write(CLAUDE, claude(SESSION, 3))
    harness.settle()
    assert harness.held(SESSION).count(b"\n") == 3


def test_an_acknowledgement_stays_one_whatever_is_beside_it(harness: DaemonHarness) -> None:
    """`stored` counts even if the rest of the result can't be decoded."""

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        answer = send()
        if request.url.path != "/v1/push":
            return answer
        content = msgspec.json.decode(answer.read())
        content["results"] = [{**each, "ahead": [{"name": 7}]} for each in content["results"]]
        body = msgspec.json.encode(content)
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=httpx.ByteStream(body))

    harness.transport.fate = fate
    harness.push()
    harness.transport.fate = None
    assert harness.push() == BatchResult()


def test_an_offset_that_cannot_be_decoded_keeps_back_its_stream_only(harness: DaemonHarness) -> None:
    """It is requested again with each batch, and the other streams go on."""
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1))
    harness.scan()
    with harness.spool.transaction():
        for stream in (1, 2):
            harness.spool.catalog.set_unknown(stream)

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        answer = send()
        if request.url.path != "/v1/offsets":
            return answer
        content = msgspec.json.decode(answer.read())
        for each in content["streams"]:
            if each["session"] == SESSION:
                each["length"] = -1
        body = msgspec.json.encode(content)
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=httpx.ByteStream(body))

    harness.transport.fate = fate
    with pytest.raises(WrongEndpoint):
        for _ in range(5):
            harness.push()
            harness.scan()
    assert harness.held(OTHER).count(b"\n") == 1
    assert harness.held(SESSION).count(b"\n") == 1
    harness.transport.fate = None
    harness.settle()
    assert harness.held(SESSION).count(b"\n") == 2


def test_the_largest_items_that_are_taken_leave_room_for_the_next_ones(harness: DaemonHarness) -> None:
    """Anyone with the device's token may push such items: the daemon continues above them."""
    (found,) = harness.held_sessions().values()
    revision = {**found, "op": "session", "revision": FREE_REVISION, "device_id": str(harness.device_id)}
    stream = {"machine_id": harness.machine_id, "session": SESSION, "stream": "main"}
    hostile = [revision, {**stream, "op": "generation", "generation": FREE_GENERATION, "previous": None, "keep": 0}]
    headers = {"Authorization": f"Bearer {harness.endpoint.token}", "Sessiond-Device": str(harness.device_id)}
    body = b"\n".join(map(msgspec.json.encode, hostile))
    answer = httpx.post(f"{harness.endpoint.url}/v1/push", headers=headers, content=body, timeout=60)
    assert [each["status"] for each in answer.json()["results"]] == ["stored"] * 2
    harness.settle()
    assert harness.held(SESSION).count(b"\n") == 2
    harness.write(CLAUDE, claude(SESSION, 3))
    harness.settle()
    assert harness.held(SESSION).count(b"\n") == 3
    assert harness.held_sessions()[SESSION]["record"]["message_count"] == 3
    assert harness.spool.stats.waiting().parked == 0


def test_nonsense_in_an_answer_about_offsets_is_refused(harness: DaemonHarness) -> None:
    """The answer about offsets is limited like that to a push. Other items are pushed before it counts as an error."""
    with harness.spool.transaction():
        harness.spool.catalog.set_unknown(1)

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        if request.url.path != "/v1/offsets":
            return send()
        held = {"session": SESSION, "stream": "main", "generation": 2**70, "length": 2**70, "sha256": None}
        body = msgspec.json.encode({"streams": [{**held, "generation": 3}]}).replace(b":3,", b":%d," % 2**70)
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=httpx.ByteStream(body))

    harness.transport.fate = fate
    assert harness.push().sessions == 1
    with pytest.raises(WrongEndpoint):
        harness.push()


@pytest.mark.parametrize("location", ["http://[::1", "http://x:y/", "\x00"])
def test_a_redirect_to_no_address_is_still_a_redirect(harness: DaemonHarness, location: str) -> None:
    """The push fails with an expected error, whatever Location contains."""
    harness.transport.fate = lambda *_: httpx.Response(
        302, headers={"location": location}, stream=httpx.ByteStream(b"")
    )
    with pytest.raises(EndpointError):
        harness.push()


def test_a_cookie_is_not_kept(harness: DaemonHarness) -> None:
    """Only the results, the offsets and retry-after of an answer have an effect."""

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        assert "cookie" not in request.headers
        answer = send()
        answer.headers["set-cookie"] = "a=b; Path=/"
        return answer

    harness.transport.fate = fate
    harness.push()
    harness.push()


def test_a_date_beyond_all_calendars_is_no_time_to_wait() -> None:
    """A Retry-After from an unknown server may contain any text."""
    assert parse_retry_after("Mon, 01 Jan 99999999999999999999 00:00:00 GMT") is None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def engine(tmp_path: Path, clock: ManualClock) -> Iterator[Engine]:
    """An engine whose threads are not started."""
    config = msgspec.convert(
        {"state_dir": str(tmp_path / "state"), "endpoint": {"url": "http://127.0.0.1:9"}}, type=Config
    )
    (tmp_path / "state").mkdir(mode=0o700)
    lock = state.Lock(str(tmp_path / "state"))
    options = EngineOptions(opening=Opening(clock=clock))
    with Engine(settings_of(config), {"HOME": str(tmp_path)}, lock, options) as made:
        yield made
    lock.release()


def test_a_clock_that_is_set_back_does_not_make_the_wait_longer(engine: Engine, clock: ManualClock) -> None:
    """The next attempt was stored under a clock years ahead. It is made after the intended wait, not after years."""
    clock.ms += 10 * 365 * 86_400_000
    engine.upload_loop.pusher.fail(Unreachable("down", retry_after=60.0))
    assert 55_000 < engine.upload_loop.pusher.state.wait_ms() <= 66_000
    clock.ms -= 10 * 365 * 86_400_000
    clock.seconds += 70
    assert engine.upload_loop.pusher.state.wait_ms() <= 0


def test_a_wait_that_was_noted_under_a_wrong_clock_ends_after_a_restart(engine: Engine, clock: ManualClock) -> None:
    """A wait that another daemon stored counts for an hour at most."""
    clock.ms += 10 * 365 * 86_400_000
    engine.upload_loop.pusher.fail(Unreachable("down", retry_after=60.0))
    clock.ms -= 10 * 365 * 86_400_000
    again = EndpointState(engine.resources, engine.upload_loop.pusher.state.health.url, None)
    first = again.wait_ms()
    assert first <= endpoint_state.LONGEST
    clock.advance(1)
    assert again.wait_ms() == first - 1000


def answers_about(engine: Engine) -> list[str]:
    """Make an endpoint that answers `GET /v1`; return the paths of its requests."""
    asked: list[str] = []
    about = About(
        service=SERVICE, protocol=PROTOCOL, endpoint_id=UUID(int=7), version="1", limits=Limits(), encodings=[]
    )

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        body = httpx.ByteStream(msgspec.json.encode(about))
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=body)

    engine.upload_loop.pusher.client._transport = httpx.MockTransport(answer)
    return asked


def test_a_restored_endpoint_is_found_out_while_the_daemon_runs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses in streams that do not change any more show only in `GET /v1`, which is requested now and then."""
    asked = answers_about(engine)
    monkeypatch.setattr(pusher, "upload", lambda _, **__: BatchResult())
    engine.upload_loop.pusher.push()
    engine.upload_loop.pusher.push()
    assert len(asked) == 1
    monkeypatch.setattr(retry, "IDENTIFY_AGAIN", 0.0)
    assert engine.upload_loop.idle_seconds() == 0.0  # nothing has to be captured for it
    engine.upload_loop.pusher.push()
    assert len(asked) == 2


def test_an_endpoint_that_takes_records_and_refuses_bytes_does_not_keep_us_busy(engine: Engine) -> None:
    """Each repair makes a new revision, which is stored, but that is no progress."""
    for _ in range(6):
        engine.upload_loop.pusher.state.succeeded(
            BatchResult(sessions=1, segments=1, healed=1, more=True), engine.upload_loop.pusher.state.health
        )
    assert engine.upload_loop.pusher.state.wait_ms() > 1000
    assert health.read_endpoint(engine.resources.spool).next_attempt_ms is not None


def test_an_endpoint_that_is_honest_about_positions_only_does_not_keep_us_busy(
    engine: Engine, harness: DaemonHarness
) -> None:
    """It takes records, refuses bytes, and is asked for its position in between, which is none of its refusals."""

    def fate(request: httpx.Request, send: Callable[[], httpx.Response]) -> httpx.Response:
        if request.url.path != "/v1/push":
            return send()
        results: list[dict] = []
        for line in map(msgspec.json.decode, pushed(request.headers["content-encoding"], request.content).splitlines()):
            at = {"generation": line.get("generation"), "offset": 7, "sha256": "0" * 64}
            results.append({"status": "stored"} if line["op"] == "session" else problem("offset-mismatch", **at))
        body = msgspec.json.encode({"batch": request.headers["sessiond-batch"], "results": results})
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=httpx.ByteStream(body))

    harness.transport.fate = fate
    endpoint, asked = engine.upload_loop.pusher.state, 0
    for _ in range(12):
        harness.scan()
        result = harness.push()
        asked += result.asked
        endpoint.succeeded(result, endpoint.health)
    assert asked > 2
    assert endpoint.wait_ms() > 1000


@pytest.mark.parametrize(
    ("between", "pause", "waits"),
    [
        (BatchResult(sessions=1, more=True), 0.0, True),
        (BatchResult(asked=1, more=True), 0.0, True),
        (BatchResult(), 599.0, True),
        (BatchResult(), 601.0, False),
        (BatchResult(segments=1, bytes=1, more=True), 0.0, False),
    ],
)
def test_only_bytes_or_time_end_the_count_of_differences(
    engine: Engine, clock: ManualClock, between: BatchResult, pause: float, waits: bool
) -> None:
    endpoint = engine.upload_loop.pusher.state
    for _ in range(4):
        endpoint.succeeded(between, endpoint.health)
        clock.advance(pause)
        endpoint.succeeded(BatchResult(healed=1, more=True), endpoint.health)
    assert (endpoint.wait_ms() > 1000) is waits


def test_after_healing_it_rests_until_somebody_wakes_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that was due and found nothing to do is no longer due, or the loop would spin."""
    for _ in range(6):
        engine.upload_loop.pusher.state.succeeded(
            BatchResult(sessions=1, segments=1, healed=1, more=True), engine.upload_loop.pusher.state.health
        )
    assert engine.upload_loop.idle_seconds()
    answers_about(engine)
    monkeypatch.setattr(pusher, "upload", lambda _, **__: BatchResult())
    assert not engine.upload_loop.push_all()
    idle = engine.upload_loop.idle_seconds()
    assert idle is not None
    assert idle > 3000  # only to ask again which endpoint answers


def test_a_failed_push_is_tried_again_though_nothing_happens(
    engine: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt needs no event: no tool writes, no rescan finds anything, nothing wakes the loop."""
    tries: list[float] = []

    def down(_: object, **__: object) -> BatchResult:
        tries.append(clock.monotonic())
        if len(tries) >= 4:
            engine.inboxes.upload.put(Stop())
        raise Unreachable("down")

    monkeypatch.setattr(pusher, "bind", lambda _: True)
    monkeypatch.setattr(pusher, "upload", down)
    monkeypatch.setattr(outage, "next_wait", lambda *_: 20.0)
    monkeypatch.setattr(engine.inboxes.upload, "wait", clock.advance)
    engine.upload_loop.run()
    assert [after - before for before, after in pairwise(tries)] == [20.0] * 3


@pytest.mark.parametrize("cause", [Cause.SETUP, Cause.USER, Cause.NETWORK])
def test_what_changes_during_a_failing_push_is_tried_at_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, cause: Cause
) -> None:
    """The network is back, but the push over the old one still times out: that must not delay the next push."""
    tries: list[int] = []

    def down(_: object, **__: object) -> BatchResult:
        tries.append(1)
        if len(tries) == 1:
            engine.inboxes.upload.put(Retry(cause))
            raise Unreachable("down", retry_after=3000.0)
        engine.inboxes.upload.put(Stop())
        raise Unreachable("down")

    monkeypatch.setattr(pusher, "bind", lambda _: True)
    monkeypatch.setattr(pusher, "upload", down)
    loop = threading.Thread(target=engine.upload_loop.run, daemon=True)
    loop.start()
    loop.join(60)
    assert len(tries) == 2


def test_a_user_who_asks_does_not_end_the_pause(engine: Engine) -> None:
    """`sync` from a cron job tries each minute, but the daemon itself keeps its pause of a quarter of an hour."""
    for _ in range(3):
        engine.upload_loop.pusher.fail(Refused("401"))
    engine.inboxes.upload.put(Retry(Cause.USER))
    engine.upload_loop.apply_messages()
    assert (
        engine.upload_loop.pusher.state.health.next_attempt_ms,
        engine.upload_loop.pusher.state.health.rejections,
    ) == (None, 3)
    engine.inboxes.upload.put(Retry(Cause.SETUP))
    engine.upload_loop.apply_messages()
    assert engine.upload_loop.pusher.state.health.rejections == 0


def test_a_push_that_holds_too_much_is_sent_in_parts_and_nothing_is_parked(tmp_path: Path) -> None:
    """`push-full` concerns the push and not the item, which stays in the outbox and is sent with the next one."""
    limits = Limits(segment=100_000, appended=100_000)
    with daemon_harness(tmp_path) as harness, running(str(tmp_path / "small"), token=TOKEN, limits=limits) as small:
        harness.close()
        harness.endpoint = small
        harness.open()
        harness.write(CLAUDE, claude(SESSION, 0))
        harness.settle()
        for number in range(1, 6):
            path = harness.write(CLAUDE, claude(SESSION, number, text="x" * 60_000))
            harness.scan()
        done = harness.push()
        assert (done.parked, done.more, done.segments) == (0, True, 1)
        harness.settle()
        assert harness.held(SESSION) == Path(path).read_bytes()
        assert harness.spool.outbox.parked() == ([], [])


def test_an_endpoint_that_postpones_everything_is_given_time(harness: DaemonHarness) -> None:
    """Sending everything again at once would never end. Nothing is parked for it."""
    harness.transport.fate = answering(problem("push-full"))
    with pytest.raises(Unreachable):
        harness.push()
    assert harness.spool.outbox.parked() == ([], [])
    harness.transport.fate = None
    harness.settle()
    assert harness.held(SESSION).count(b"\n") == 2


def test_a_record_over_the_quota_waits_instead_of_being_parked(harness: DaemonHarness) -> None:
    """The quota is used up now. Once there is space again, the record is pushed."""
    harness.transport.fate = answering(problem("quota"))
    with pytest.raises(Unreachable, match="quota is used up"):
        harness.push()
    assert harness.spool.outbox.parked() == ([], [])
    harness.transport.fate = None
    harness.settle()
    assert harness.held(SESSION).count(b"\n") == 2


def test_the_quota_of_the_user_is_shown_and_resumes_by_itself(harness: DaemonHarness) -> None:
    """Transcripts stay in the outbox, records are still pushed, and a higher quota needs nothing else."""
    store = harness.endpoint.store
    harness.address = harness.uploading.address = harness.endpoint.url
    harness.settle()
    accounts.set_user(store, "default", quota=12_000)
    harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, text="x" * 12_000))
    harness.scan()
    with pytest.raises(Unreachable, match="a quota of the endpoint is used up") as refused:
        harness.settle()
    assert "serve user set" in str(refused.value.hint)
    assert harness.spool.outbox.parked() == ([], [])
    assert not harness.held(SESSION).count(b"x" * 12_000)
    accounts.set_user(store, "default", quota=None)
    harness.settle()
    assert harness.held(SESSION).count(b"x" * 12_000) == 1
