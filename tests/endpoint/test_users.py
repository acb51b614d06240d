"""Two users of one endpoint: neither can read, change or detect anything of the other's."""

from __future__ import annotations

import base64
import json
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from endpoint_lines import DEVICE, OTHER_DEVICE, SESSION, Line, Pusher, append, generation, record
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from stores import new_store

from sessiond.endpoint.server import Running, accounts, invites, tokens
from sessiond.endpoint.server.app import Settings
from sessiond.endpoint.server.run import running_store
from sessiond.endpoint.server.trusted_proxy import TrustedProxy

DEVICES = {"ada": DEVICE, "eve": OTHER_DEVICE}
MACHINES = ["laptop", "desk"]
SESSIONS = [str(uuid.UUID(int=number)) for number in range(2)]


def client(endpoint: Running, user: str, device: str = "", **how: Any) -> Pusher:
    """Add a token for a user, and return a client that has it."""
    secret = tokens.add(endpoint.store, f"{user}-{uuid.uuid4().hex}", user=user, **how)
    return Pusher(endpoint.url, secret, device or DEVICES[user])


def snapshot(pusher: httpx.Client) -> dict[str, Any]:
    """Return all that a user can read, by address; what names the endpoint itself is left out."""
    paths = ["/v1", "/v1/sessions", "/v1/changes", "/v1/sessions?limit=1", "/v1/changes?limit=1"]
    paths += ["/v1/unlisted", "/v1/unlisted?limit=1", "/v1/forgotten", "/v1/forgotten?limit=1"]
    for machine in MACHINES:
        for session in SESSIONS:
            one = f"/v1/sessions/{machine}/{session}"
            paths += [one, f"{one}/streams", f"{one}/streams/main"]
    return {path: _shown(pusher.get(path)) for path in paths}


def _shown(answer: httpx.Response) -> Any:
    tag = answer.headers.get("etag", "").partition("-")[2]
    if answer.headers["content-type"] == "application/x-ndjson":
        return answer.status_code, tag, answer.content
    content = answer.json()
    content.pop("endpoint_id", None)
    if content.get("next"):  # a place: [endpoint, change] or [start, machine, session]
        place = json.loads(base64.urlsafe_b64decode(content["next"] + "=" * (-len(content["next"]) % 4)))
        content["next"] = place[1:]
    return answer.status_code, content


class TwoUsers(RuleBasedStateMachine):
    """Ada and Eve do anything, under the same names; what each reads is what she alone would have read.

    Two endpoints run: both users push to the shared one, and the same requests of each go to one of her own. What she
    reads at both must be equal, byte for byte, and all that Ada writes has a marker that Eve must never see.
    """

    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.closing = ExitStack()
        base = Path(self.closing.enter_context(tempfile.TemporaryDirectory()))
        shared = self.start(base / "shared")
        self.shared, self.alone = {}, {}
        self.endpoints: dict[str, tuple[Running, Running]] = {}
        for user in DEVICES:
            own = self.start(base / user)
            self.endpoints[user] = (shared, own)
            self.shared[user] = self.closing.enter_context(client(shared, user))
            self.alone[user] = self.closing.enter_context(client(own, user))
        self.pushed: set[str] = set()
        self.changed = True

    def start(self, directory: Path) -> Running:
        """Start an endpoint that a proxy on this host may sign people in at."""
        store = self.closing.enter_context(new_store(self.kind, directory))
        how = Settings(proxy=TrustedProxy(["127.0.0.1"]))
        return self.closing.enter_context(running_store(store, settings=how))

    def teardown(self) -> None:
        try:
            if self.changed:
                self.each_reads_what_she_alone_would()
        finally:
            self.closing.close()

    def push(self, user: str, *lines: Line) -> None:
        """Push the same lines to both endpoints; the answers are equal, and name nothing of the other user."""
        batch = {"Sessiond-Batch": f"batch of {user}"}
        body = "\n".join(map(json.dumps, lines))
        answers = [each[user].post("/v1/push", content=body, headers=batch) for each in (self.shared, self.alone)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].content == answers[1].content
        for foreign in {"ada": ["eve", OTHER_DEVICE], "eve": ["ada-was", DEVICE]}[user]:
            assert foreign not in answers[0].text
        self.pushed.add(user)
        self.changed = True

    @rule(
        user=st.sampled_from(list(DEVICES)),
        machine=st.sampled_from(MACHINES),
        session=st.sampled_from(SESSIONS),
        revision=st.integers(1, 5),
    )
    def push_record(self, user: str, machine: str, session: str, revision: int) -> None:
        line = record(
            revision, device=DEVICES[user], machine_id=machine, id=session, working_directory=f"/{user}-was-here"
        )
        self.push(user, line)

    @rule(
        user=st.sampled_from(list(DEVICES)),
        machine=st.sampled_from(MACHINES),
        session=st.sampled_from(SESSIONS),
        offset=st.sampled_from([0, 0, 14, 28, 5]),
        number=st.integers(0, 2),
    )
    def push_bytes(self, user: str, machine: str, session: str, offset: int, number: int) -> None:
        text = f"{user}-was-here\n\n".encode()[:14]
        self.push(user, append(offset, text, generation=number, machine_id=machine, session=session))

    @rule(
        user=st.sampled_from(list(DEVICES)),
        machine=st.sampled_from(MACHINES),
        session=st.sampled_from(SESSIONS),
        number=st.integers(1, 3),
        keep=st.sampled_from([0, 5, 14]),
    )
    def push_generation(self, user: str, machine: str, session: str, number: int, keep: int) -> None:
        self.push(user, generation(number, number - 1, keep, machine_id=machine, session=session))

    @rule(user=st.sampled_from(list(DEVICES)), machine=st.sampled_from(MACHINES), session=st.sampled_from(SESSIONS))
    def ask_offsets(self, user: str, machine: str, session: str) -> None:
        question = {"machine_id": machine, "streams": [{"session": session, "stream": "main"}]}
        answers = [each[user].post("/v1/offsets", json=question).content for each in (self.shared, self.alone)]
        assert answers[0] == answers[1]

    @rule(
        user=st.sampled_from(list(DEVICES)),
        machine=st.sampled_from([*MACHINES, None]),
        session=st.sampled_from(SESSIONS),
    )
    def forget(self, user: str, machine: str | None, session: str) -> None:
        """Erase a session of one machine or of all: the other user's session of the same name stays."""
        path = f"/v1/sessions/{session}" if machine is None else f"/v1/sessions/{machine}/{session}"
        answers = [each[user].delete(path) for each in (self.shared, self.alone)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].content == answers[1].content
        self.changed = True

    @rule(user=st.sampled_from(list(DEVICES)), quota=st.sampled_from([None, 3000, 4000]))
    def limit(self, user: str, quota: int | None) -> None:
        """Change the quota of one user. What the other one stores is not counted."""
        for endpoint in self.endpoints[user]:
            accounts.set_user(endpoint.store, user, quota=quota)
        self.changed = True
        held = [
            [(each.held, each.quota) for each in accounts.list_users(endpoint.store) if each.user == user]
            for endpoint in self.endpoints[user]
        ]
        assert held[0] == held[1]

    @rule(user=st.sampled_from(list(DEVICES)), machine=st.sampled_from(MACHINES))
    def enrol(self, user: str, machine: str) -> None:
        """Enrol another device with an invitation: it reads what the user alone would read."""
        self.changed = True
        shown = []
        for endpoint in self.endpoints[user]:
            code = invites.add(endpoint.store, user=user, lifetime=3600)
            asked = {"code": code, "device_id": SESSION, "machine_id": machine}
            answer = httpx.post(f"{endpoint.url}/v1/enrol", json=asked, verify=False, timeout=60).json()
            assert answer["user"] == user
            with Pusher(endpoint.url, answer["token"], SESSION) as device:
                shown.append(snapshot(device))
        assert shown[0] == shown[1]

    @rule(user=st.sampled_from(list(DEVICES)))
    def sign_in(self, user: str) -> None:
        """Read as a person whom the proxy names, which is the user with or without data."""
        self.changed = True
        shown = []
        for endpoint in self.endpoints[user]:
            headers = {"X-Forwarded-User": user}
            with httpx.Client(base_url=endpoint.url, headers=headers, timeout=20, verify=False) as person:
                shown.append(snapshot(person))
                assert person.post("/v1/push", content=b"").status_code == 403
                assert person.get("/metrics").status_code == 403
        assert shown[0] == shown[1]

    @precondition(lambda self: len(self.pushed) == 2)
    @rule(machine=st.sampled_from(MACHINES))
    def pretend_to_be_the_other_device(self, machine: str) -> None:
        """Push with Eve's token and the id of Ada's device: it is refused, and Eve learns nothing of that device."""
        self.changed = True
        headers = {"Sessiond-Device": DEVICES["ada"]}
        for line in (record(9, machine_id=machine, id=SESSIONS[0]), append(0, b"x", machine_id=machine)):
            answer = self.shared["eve"].post("/v1/push", content=json.dumps(line), headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (403, "wrong-device")
        assert "last_batch" not in {
            key for key, value in self.shared["eve"].get("/v1", headers=headers).json().items() if value is not None
        }

    @precondition(lambda self: self.changed)
    @rule()
    def each_reads_what_she_alone_would(self) -> None:
        """Compare everything, if anything was requested since that was done."""
        self.changed = False
        for user, other in (("ada", "eve"), ("eve", "ada")):
            mine, expected = snapshot(self.shared[user]), snapshot(self.alone[user])
            assert mine == expected
            for foreign in (f"{other}-was-here", f"batch of {other}", DEVICES[other]):
                assert foreign not in str(mine)


class TwoUsersInPostgres(TwoUsers):
    """The same in PostgreSQL, with objects."""

    kind = "postgresql+files"


TestTwoUsers, TestTwoUsersInPostgres = TwoUsers.TestCase, TwoUsersInPostgres.TestCase
TestTwoUsers.settings = settings(
    max_examples=3,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # each example starts three endpoints: shrinking one would take minutes
    suppress_health_check=list(HealthCheck),
)
TestTwoUsersInPostgres.settings = settings(TestTwoUsers.settings, max_examples=1)


def test_names_of_another_user_are_answered_like_unknown_names(endpoint: Running) -> None:
    """The status, the headers and the body are the same, except for the requested name."""
    real, unknown = "laptop", "nobody"
    other = str(uuid.UUID(int=9))
    with client(endpoint, "ada") as ada, client(endpoint, "eve") as eve:
        assert ada.said(record(machine_id=real), append(0, b"secret", machine_id=real)) == ["stored"] * 2

        def ask(machine: str, session: str) -> list[tuple[int, list[str], str]]:
            one = f"/v1/sessions/{machine}/{session}"
            answers = [
                eve.get(path)
                for path in (one, f"{one}/streams", f"{one}/streams/main", f"{one}/streams/main?generation=0")
            ]
            answers.append(eve.get("/v1/sessions", params={"machine_id": machine}))
            question = {"machine_id": machine, "streams": [{"session": session, "stream": "main"}]}
            answers.append(eve.post("/v1/offsets", json=question))
            answers.append(eve.get(one, params={"user": "ada"}))
            return [
                (
                    answer.status_code,
                    sorted(name for name in answer.headers if name != "content-length"),
                    answer.text.replace(machine, "MACHINE").replace(session, "SESSION"),
                )
                for answer in answers
            ]

        assert ask(real, SESSION) == ask(unknown, SESSION) == ask(real, other) == ask(unknown, other)
        assert eve.get("/v1/changes").json()["sessions"] == []
        for name in ("ada", "grace"):
            refused = eve.get("/v1/sessions", params={"user": name})
            assert (refused.status_code, refused.json()["type"]) == (403, "forbidden")
        # Pushing under the same names makes machines of her own, and leaves Ada's as they were.
        lines = [append(0, b"mine", machine_id=real), record(9, device=OTHER_DEVICE, machine_id=real)]
        assert eve.said(*lines) == ["stored"] * 2
        assert ada.get(f"/v1/sessions/{real}/{SESSION}/streams/main").content == b"secret"
        assert ada.get(f"/v1/sessions/{real}/{SESSION}").json()["revision"] == 1


def test_an_admin_reads_any_user_and_pushes_for_none(endpoint: Running) -> None:
    """The parameter `user` names whose sessions; device ids stay hidden even then."""
    with (
        client(endpoint, "ada") as ada,
        client(endpoint, "eve", scopes=["admin"]) as admin,
    ):
        assert ada.said(record(), append(0, b"text")) == ["stored"] * 2
        assert admin.get("/v1/sessions").json()["sessions"] == []
        one = f"/v1/sessions/ada/{SESSION}"
        for path in ("/v1/sessions", "/v1/changes"):
            (found,) = admin.get(path, params={"user": "ada"}).json()["sessions"]
            assert (found["record"]["id"], found["device_id"]) == (SESSION, None)
        assert admin.get(one, params={"user": "ada"}).json()["device_id"] is None
        assert admin.get(f"{one}/streams", params={"user": "ada"}).json()["streams"]
        assert admin.get(f"{one}/streams/main", params={"user": "ada"}).content == b"text"
        assert admin.get(one).status_code == 404
        assert admin.post("/v1/push", content=b"").status_code == 403


def test_a_device_is_shown_to_its_own_token_only(endpoint: Running) -> None:
    """Its id and the name of its last push are hidden from requests without a token and from other tokens of the same
    user.
    """
    asked = {"Sessiond-Device": DEVICE}
    with client(endpoint, "ada") as laptop, client(endpoint, "ada", OTHER_DEVICE) as desk:
        answer = laptop.post("/v1/push", content=json.dumps(record()), headers={"Sessiond-Batch": "the last one"})
        assert answer.json()["results"] == [{"status": "stored"}]
        assert laptop.get("/v1").json()["last_batch"] == "the last one"
        assert laptop.get("/v1/sessions").json()["sessions"][0]["device_id"] == DEVICE
        for shown in (
            desk.get("/v1", headers=asked),
            httpx.get(f"{endpoint.url}/v1", headers=asked, timeout=60),
            laptop.get("/v1", headers={"Sessiond-Device": OTHER_DEVICE}),
        ):
            assert shown.json().get("last_batch") is None
        assert desk.said(append(0, b"x", machine_id="desk")) == ["stored"]
        assert desk.get("/v1", headers=asked).json().get("last_batch") is None
        for path in ("/v1/sessions", "/v1/changes"):
            assert desk.get(path, headers=asked).json()["sessions"][0]["device_id"] is None
        # A push without lines leaves the last one as it is.
        assert laptop.post("/v1/push", content=b"", headers={"Sessiond-Batch": "empty"}).json()["results"] == []
        assert laptop.get("/v1").json()["last_batch"] == "the last one"


@pytest.mark.parametrize("line", [record(5), append(1, b"y"), append(0, b"z", stream="new"), generation(1, 0, 1)])
def test_every_line_is_checked_against_the_device(endpoint: Running, line: Line) -> None:
    """Another device of the user can't change this one's machine. A record names the device that pushes it."""
    with client(endpoint, "ada") as laptop, client(endpoint, "ada", OTHER_DEVICE) as desk:
        assert laptop.said(record(), append(0, b"x")) == ["stored"] * 2
        before = snapshot(laptop)
        named = line | ({"device_id": OTHER_DEVICE} if line["op"] == "session" else {})
        assert desk.said(named) == ["machine-taken"]
        if line["op"] == "session":
            assert desk.said(line) == ["invalid"], "the device of another one"
        assert snapshot(laptop) == before
