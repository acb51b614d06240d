"""Tokens: made once, kept hashed, refused when revoked."""

from __future__ import annotations

import json
import os
import threading
import time
from uuid import UUID

import httpx
import msgspec
import pytest
from endpoint_lines import DEVICE, OTHER_DEVICE, SESSION, Pusher, append, record, store_push
from starlette.requests import Request

from sessiond.endpoint.server import Running, recent_pushers, tokens
from sessiond.endpoint.server.decision import Sender
from sessiond.endpoint.server.guard import client_name
from sessiond.endpoint.server.last_uses import LastUses
from sessiond.endpoint.server.push import PushRequest
from sessiond.endpoint.server.recent_pushers import MAX_BODY, SECONDS, RecentPushers
from sessiond.endpoint.server.sqlite_schema import FILE
from sessiond.endpoint.server.tokens import Access
from sessiond.endpoint.wire import Limits
from sessiond.errors import NotFound, SessiondError

ADDRESSES = [
    ("POST", "/v1/push"),
    ("POST", "/v1/offsets"),
    ("GET", "/v1/changes"),
    ("GET", "/v1/sessions"),
    ("GET", "/v1/unlisted"),
    ("GET", f"/v1/sessions/ada/{SESSION}"),
    ("GET", f"/v1/sessions/ada/{SESSION}/streams"),
    ("GET", f"/v1/sessions/ada/{SESSION}/streams/main"),
]


def test_every_answer_but_the_description_needs_the_token(endpoint: Running) -> None:
    """Every address but `GET /v1` needs the complete token, as a bearer token."""
    token = endpoint.token
    wrong = [None, "", "Bearer", "Bearer sd_wrong", f"Basic {token}", token, f"Bearer x{token}", f"Bearer {token}x"]
    with httpx.Client(base_url=endpoint.url, verify=False, timeout=60) as client:
        for method, path in ADDRESSES:
            for authorization in wrong:
                headers = {} if authorization is None else {"Authorization": authorization}
                answer = client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["type"]) == (401, "unauthorized"), (path, authorization)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert token not in answer.text


def test_a_wrong_token_is_refused_before_the_body_is_read(endpoint: Running) -> None:
    """A client without access must not make the endpoint read its body."""
    answer = httpx.post(
        f"{endpoint.url}/v1/push", content=bytes(9 << 20), headers={"Authorization": "Bearer no"}, timeout=60
    )
    assert answer.status_code == 401
    assert httpx.get(f"{endpoint.url}/v1", headers={"Authorization": "Bearer no"}, timeout=60).status_code == 401


def test_tokens_are_added_and_revoked_while_the_endpoint_runs(endpoint: Running) -> None:
    """A lost laptop is locked out by one command."""
    secret = tokens.add(endpoint.store, "laptop")
    other = tokens.add(endpoint.store, "desk")
    assert [each.name for each in tokens.list_tokens(endpoint.store)] == ["desk", "laptop"]

    def status(token: str) -> int:
        return httpx.get(
            f"{endpoint.url}/v1/changes", headers={"Authorization": f"bearer {token}"}, timeout=60
        ).status_code

    assert (status(secret), status(other)) == (200, 200)
    tokens.revoke(endpoint.store, "laptop")
    assert (status(secret), status(other)) == (401, 200)
    with pytest.raises(NotFound):
        tokens.revoke(endpoint.store, "laptop")
    with pytest.raises(SessiondError, match="exists"):
        tokens.add(endpoint.store, "desk")
    with pytest.raises(SessiondError, match="printable"):
        tokens.add(endpoint.store, "a\nb")


def test_the_store_does_not_know_the_secret(endpoint: Running) -> None:
    """A stolen copy of the store's files does not allow pushing."""
    secret = tokens.add(endpoint.store, "laptop")
    assert len(secret) > 43
    directory = endpoint.store.directory
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        assert os.stat(path).st_mode & 0o077 == 0, name
        with open(path, "rb") as file:
            assert secret.encode() not in file.read()
    assert os.path.exists(os.path.join(directory, FILE))


def test_a_token_pushes_as_one_device(endpoint: Running) -> None:
    """The first push binds it. A push without lines does not bind it, and one without a device is refused."""
    secret = tokens.add(endpoint.store, "laptop")
    with Pusher(endpoint.url, secret) as first, Pusher(endpoint.url, secret, OTHER_DEVICE) as second:
        assert second.lines() == []
        assert tokens.list_tokens(endpoint.store)[0].device is None
        assert first.said({"op": "nothing"}) == ["invalid"]
        assert tokens.list_tokens(endpoint.store)[0].device == DEVICE
        for content in (b"", json.dumps(append(0, b"x")).encode()):
            refused = second.post("/v1/push", content=content)
            assert (refused.status_code, refused.json()["type"]) == (403, "wrong-device")
            assert "serve token rebind laptop" in refused.json()["detail"]
        assert second.get("/v1/sessions").status_code == 200, "reading is not bound to a device"
        del first.headers["Sessiond-Device"]
        refused = first.post("/v1/push", content=json.dumps(append(0, b"x")))
        assert (refused.status_code, refused.json()["type"]) == (400, "invalid")
        tokens.rebind(endpoint.store, "laptop")
        assert second.said(append(0, b"x")) == ["stored"]
    with pytest.raises(NotFound):
        tokens.rebind(endpoint.store, "nobody")


def test_the_device_is_checked_again_in_the_transaction(endpoint: Running) -> None:
    """A body may take a minute to arrive: the token may be bound, released or revoked meanwhile."""
    secret = tokens.add(endpoint.store, "laptop")
    with endpoint.store.read() as db:
        access = tokens.find(db, secret, {})
    assert access is not None
    with endpoint.store.write() as db:
        tokens.bind(db, access, UUID(DEVICE))
    with pytest.raises(tokens.WrongDevice), endpoint.store.write() as db:
        tokens.bind(db, access, UUID(OTHER_DEVICE))
    tokens.revoke(endpoint.store, "laptop")
    tokens.add(endpoint.store, "laptop")
    line = json.dumps(append(0, b"x")).encode()
    late = PushRequest(endpoint.store, Limits(), Sender(access=access, device=UUID(DEVICE)))
    with pytest.raises(tokens.Revoked):
        store_push(endpoint.store, late, line)
    assert tokens.list_tokens(endpoint.store)[0].device is None


def test_a_released_device_never_gets_the_token_back(endpoint: Running) -> None:
    """It may still run, its push may be on its way, and the token may have had another device since."""
    secret = tokens.add(endpoint.store, "laptop")
    third = str(UUID(int=3))
    with Pusher(endpoint.url, secret) as first, Pusher(endpoint.url, secret, OTHER_DEVICE) as second:
        assert first.said(append(0, b"x")) == ["stored"]
        with endpoint.store.read() as db:
            access = tokens.find(db, secret, {})
        assert access is not None
        tokens.rebind(endpoint.store, "laptop")
        # This push was authenticated before the command, and reaches the store after it.
        line = json.dumps(append(1, b"y")).encode()
        late = PushRequest(endpoint.store, Limits(), Sender(access=access, device=UUID(DEVICE)))
        with pytest.raises(tokens.WrongDevice, match="released"):
            store_push(endpoint.store, late, line)
        for content in (b"", line):
            refused = first.post("/v1/push", content=content)
            assert (refused.status_code, refused.json()["type"]) == (403, "wrong-device")
            assert "serve token add" in refused.json()["detail"]
        assert tokens.list_tokens(endpoint.store)[0].device is None
        assert second.said(append(0, b"z", machine_id="desk")) == ["stored"]
        tokens.rebind(endpoint.store, "laptop")
        tokens.rebind(endpoint.store, "laptop")
        for pusher in (first, second):
            assert pusher.post("/v1/push", content=line).status_code == 403
        with Pusher(endpoint.url, secret, third) as another:
            assert another.said(append(0, b"z", machine_id="phone")) == ["stored"]
        assert first.bytes_of() == b"x"


def test_no_push_of_a_released_device_is_stored_after_the_command_returned(endpoint: Running) -> None:
    """The old device pushes as fast as it can, on several connections, while its token is released."""
    for number in range(5):
        name = f"token {number}"
        secret = tokens.add(endpoint.store, name)
        answers: list[int] = []
        running = threading.Event()

        def work(
            stream: str, secret: str = secret, answers: list[int] = answers, running: threading.Event = running
        ) -> None:
            with Pusher(endpoint.url, secret) as pusher:
                for offset in range(10_000):
                    status = pusher.post(
                        "/v1/push", content=json.dumps(append(offset, b"x", stream=stream))
                    ).status_code
                    answers.append(status)
                    if len(answers) >= 10:
                        running.set()
                    if status != 200:
                        return

        threads = [threading.Thread(target=work, args=(f"{name}/{each}",)) for each in range(3)]
        for thread in threads:
            thread.start()
        assert running.wait(60)
        tokens.rebind(endpoint.store, name)
        lengths = stored_lengths(endpoint)
        for thread in threads:
            thread.join()
        assert stored_lengths(endpoint) == lengths
        assert answers.count(403) == 3
        assert {each.device for each in tokens.list_tokens(endpoint.store)} == {None}


def stored_lengths(endpoint: Running) -> list[tuple[int, int]]:
    """Return the length of each stream in the store."""
    with endpoint.store.read() as db:
        return db.execute("SELECT stream, length FROM generations ORDER BY stream").fetchall()


def test_scopes_limit_a_token(endpoint: Running) -> None:
    """Each address needs its scope; a machine's offsets are answered to readers and to the machine's own device."""
    with Pusher(endpoint.url, tokens.add(endpoint.store, "both")) as both:
        assert both.said(record(), append(0, b"x")) == ["stored"] * 2
    question = {"machine_id": "ada", "streams": [{"session": SESSION, "stream": "main"}]}
    held = {"push": 0, "read": 1, "admin": None}
    for scope, length in held.items():
        with Pusher(endpoint.url, tokens.add(endpoint.store, scope, scopes=[scope]), OTHER_DEVICE) as client:
            pushed = client.post("/v1/push", content=json.dumps(append(0, b"y", machine_id="other")))
            assert pushed.status_code == (200 if scope == "push" else 403)
            for method, path in ADDRESSES[2:]:
                assert client.request(method, path).status_code == (403 if scope == "push" else 200), path
            offsets = client.post("/v1/offsets", json=question)
            if length is None:
                assert (offsets.status_code, offsets.json()["type"]) == (403, "forbidden")
            else:
                assert offsets.json()["streams"][0]["length"] == length
            if scope == "push":
                mine = client.post("/v1/offsets", json=question | {"machine_id": "other"})
                assert mine.json()["streams"][0]["length"] == 1


def test_an_expired_token_is_refused(endpoint: Running) -> None:
    """The endpoint's clock decides when the time of the token is over."""
    secret = tokens.add(endpoint.store, "phone", lifetime=3600)
    with Pusher(endpoint.url, secret) as client:
        assert client.get("/v1/sessions").status_code == 200
        with endpoint.store.write() as db:
            db.execute("UPDATE tokens SET expires_ms = made_ms")
        answer = client.get("/v1/sessions")
        assert (answer.status_code, answer.json()["type"]) == (401, "unauthorized")
        assert "expired" in answer.json()["detail"]


def test_a_token_that_pushed_before_is_refused_once_it_is_revoked(endpoint: Running) -> None:
    """Its pushes are admitted without a lookup, but each transaction looks the token up again."""
    secret = tokens.add(endpoint.store, "laptop")
    with Pusher(endpoint.url, secret) as client:
        assert [client.said(append(at, b"x")) for at in range(3)] == [["stored"]] * 3
        tokens.revoke(endpoint.store, "laptop")
        for lines in (json.dumps(append(3, b"x")).encode(), json.dumps({"op": "nothing"}).encode(), b""):
            answer = client.post("/v1/push", content=lines)
            assert (answer.status_code, answer.json()["type"]) == (401, "unauthorized"), lines
    with endpoint.store.read() as db:
        assert db.execute("SELECT sum(length) FROM generations").fetchone()[0] == 3


def test_a_token_that_pushed_before_may_be_released_and_used_elsewhere(endpoint: Running) -> None:
    """The old device is refused at once, and the new one is not taken for it."""
    secret = tokens.add(endpoint.store, "laptop")
    with Pusher(endpoint.url, secret) as old, Pusher(endpoint.url, secret, OTHER_DEVICE) as new:
        assert [old.said(append(at, b"x")) for at in range(3)] == [["stored"]] * 3
        tokens.rebind(endpoint.store, "laptop")
        refused = old.post("/v1/push", content=json.dumps(append(3, b"x")))
        assert (refused.status_code, refused.json()["type"]) == (403, "wrong-device")
        assert [new.said(append(at, b"x", session=str(UUID(int=9)), machine_id="b")) for at in range(3)] == [
            ["stored"]
        ] * 3
        assert old.post("/v1/push", content=json.dumps(append(3, b"x"))).status_code == 403


def push_of(length: str | None, device: str = DEVICE) -> Request:
    """Return the request of a push."""
    headers = [(b"sessiond-device", device.encode())]
    if length is not None:
        headers.append((b"content-length", length.encode()))
    return Request({"type": "http", "headers": headers})


def test_which_pushes_need_no_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short ones of the device that pushed with the token in the last minute. A long body is not received in vain."""
    now = 0.0
    monkeypatch.setattr(recent_pushers, "CAPACITY", 2)
    pushers = RecentPushers(lambda: now)
    access = Access(user="ada", scopes=frozenset({"push"}), name="a", digest=tokens.hash_secret("a"))
    pushers.keep(access)
    assert pushers.find(push_of("9"), "a") is None, "it is not bound"
    bound = msgspec.structs.replace(access, device=UUID(DEVICE))
    pushers.keep(bound)
    assert pushers.find(push_of("9"), "a") is bound
    assert pushers.find(push_of(str(MAX_BODY)), "a") is bound
    others = [push_of(str(MAX_BODY + 1)), push_of("9" * 4000), push_of("x"), push_of(None), push_of("9", OTHER_DEVICE)]
    assert [pushers.find(each, "a") for each in others] == [None] * 5
    assert pushers.find(push_of("9"), "b") is None
    now = SECONDS + 1.0
    assert pushers.find(push_of("9"), "a") is None
    pushers.keep(msgspec.structs.replace(bound, expires_ms=1))
    assert pushers.find(push_of("9"), "a") is None, "it has expired"
    for name in ("a", "b", "c"):
        pushers.keep(msgspec.structs.replace(bound, digest=tokens.hash_secret(name)))
    assert [pushers.find(push_of("9"), name) is None for name in ("a", "b", "c")] == [True, False, False]


def test_a_token_is_found_by_an_index(endpoint: Running) -> None:
    """Looking up one of 10,000 tokens reads as much as looking up the only one: no table is scanned."""
    plan = "EXPLAIN QUERY PLAN SELECT name, user, scopes, device, expires_ms FROM tokens WHERE sha256 = ?"
    with endpoint.store.read() as db:
        steps = [row[3] for row in db.execute(plan, (b"x",))]
        assert all(step.startswith("SEARCH tokens USING") for step in steps), steps
    with endpoint.store.write() as db:
        rows = ((str(number), number.to_bytes(32, "big"), number) for number in range(10_000))
        db.executemany("INSERT INTO tokens (name, sha256, made_ms) VALUES (?, ?, ?)", rows)
    secret = tokens.add(endpoint.store, "one of many")
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with endpoint.store.read() as db:
        db.set_progress_handler(count, 1)
        assert tokens.find(db, secret, {}) is not None
        db.set_progress_handler(None, 0)
    assert steps < 200


def test_the_last_use_is_written_once_a_minute_at_most(endpoint: Running) -> None:
    """Reads do not write each time; only the first one of a minute does."""
    secret = tokens.add(endpoint.store, "reader")
    with endpoint.store.read() as db:
        access = tokens.find(db, secret, {})
    assert access is not None
    uses = LastUses()
    assert uses.note(access)
    with endpoint.store.write() as db:
        uses.write(db)
    assert not uses.note(access)
    assert not uses.pending()
    with Pusher(endpoint.url, secret) as client:
        client.get("/v1/sessions")
        (shown,) = tokens.list_tokens(endpoint.store)
        assert shown.used_ms is not None
        first = changes(endpoint)
        while (before := changes(endpoint)) != first:  # the first read's use is stored after its answer
            first = before
        for _ in range(20):
            assert client.get("/v1/sessions").status_code == 200
        assert changes(endpoint) <= first + 1


def changes(endpoint: Running) -> int:
    """Count the rows that the endpoint has written so far."""
    with endpoint.store._turn:
        return endpoint.store._writer.total_changes


def test_a_token_that_only_reads_shows_its_use(endpoint: Running) -> None:
    secret = tokens.add(endpoint.store, "reader", scopes=["read"])
    with Pusher(endpoint.url, secret) as client:
        assert client.get("/v1/sessions").status_code == 200
    ended = time.monotonic() + 60
    while tokens.list_tokens(endpoint.store)[0].used_ms is None:  # it is written after the answer
        assert time.monotonic() < ended
        time.sleep(0.01)


def test_bad_names_users_and_scopes_are_refused(endpoint: Running) -> None:
    for wrong in ({"user": ""}, {"user": "a b"}, {"user": "a\u202eb"}, {"user": "x" * 101}, {"scopes": []}):
        with pytest.raises(SessiondError):
            tokens.add(endpoint.store, "laptop", **wrong)  # type: ignore[arg-type]
    with pytest.raises(SessiondError):
        tokens.add(endpoint.store, "laptop", scopes=["push", "write"])
    for name in ("", " ", "a\nb"):
        with pytest.raises(SessiondError):
            tokens.add(endpoint.store, name)
    assert tokens.list_tokens(endpoint.store) == []


def test_spellings_of_the_header_are_one_client() -> None:
    """If each spelling of the header counted as a client, each would have its own share of the endpoint."""

    def name(header: bytes | None) -> str:
        headers = [] if header is None else [(b"authorization", header)]
        return client_name(Request({"type": "http", "headers": headers, "client": ("127.0.0.1", 1)}))

    assert {name(b"Bearer sd_x"), name(b"bearer  sd_x "), name(b"BEARER sd_x")} == {"sd_x"}
    assert name(None) == "127.0.0.1"
