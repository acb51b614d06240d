"""Invitations: a new device gets a token of its own with a code, and nothing else."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest
from endpoint_lines import DEVICE, OTHER_DEVICE, Pusher, append, record

from sessiond import clock
from sessiond.endpoint.client import Client
from sessiond.endpoint.server import Running, invites, tokens
from sessiond.errors import NotFound, Refused, SessiondError

DAY = 86_400.0


def enrol(endpoint: Running, code: str, device: str = DEVICE, machine: str = "ada") -> httpx.Response:
    """Send a request to enrol, without a token."""
    asked = {"code": code, "device_id": device, "machine_id": machine}
    return httpx.post(f"{endpoint.url}/v1/enrol", json=asked, verify=False, timeout=60)


def refusal(answer: httpx.Response) -> str:
    """Return the reason of a refused request."""
    assert (answer.status_code, answer.json()["type"]) == (403, "invitation")
    return str(answer.json()["detail"])


def test_a_device_gets_a_token_that_is_bound_to_it(endpoint: Running) -> None:
    """The token pushes and reads as the user of the invitation, and from no other device."""
    code = invites.add(endpoint.store, user="ada", lifetime=DAY)
    client = Client(endpoint.url, None, device_id=uuid.UUID(DEVICE))
    made = client.enrol(code, "ada")
    client.close()
    assert made.user == "ada"
    assert made.name.startswith("ada-")
    with Pusher(endpoint.url, made.token) as pusher, Pusher(endpoint.url, made.token, OTHER_DEVICE) as thief:
        assert thief.post("/v1/push", json=append(0, b"y")).json()["type"] == "wrong-device"
        assert pusher.said(record(), append(0, b"x")) == ["stored", "stored"]
        assert pusher.bytes_of() == b"x"
    (token,) = tokens.list_tokens(endpoint.store)
    assert (token.user, token.device, token.scopes) == ("ada", DEVICE, ["push", "read"])


def test_an_invitation_is_valid_for_so_many_devices(endpoint: Running) -> None:
    """The last use is the last one, also if two devices have the same machine id."""
    code = invites.add(endpoint.store, uses=2, lifetime=DAY)
    assert [enrol(endpoint, code, str(uuid.UUID(int=number))).status_code for number in range(3)] == [200, 200, 403]
    assert "as many devices" in refusal(enrol(endpoint, code, OTHER_DEVICE))
    assert len(tokens.list_tokens(endpoint.store)) == 2
    (invite,) = invites.list_invites(endpoint.store)
    assert (invite.used, invite.uses) == (2, 2)


def test_a_lost_answer_costs_no_use(endpoint: Running) -> None:
    """The same device gets another secret for the same token, and the first secret is worth nothing any more."""
    code = invites.add(endpoint.store, lifetime=DAY)
    first, second = enrol(endpoint, code).json(), enrol(endpoint, code).json()
    assert (first["name"], first["token"] == second["token"]) == (second["name"], False)
    assert len(tokens.list_tokens(endpoint.store)) == 1
    with Pusher(endpoint.url, first["token"]) as pusher:
        assert pusher.get("/v1/sessions").status_code == 401
    with Pusher(endpoint.url, second["token"]) as pusher:
        assert pusher.said(append(0, b"x")) == ["stored"]


def test_a_revoked_token_does_not_come_back(endpoint: Running) -> None:
    """A device whose token was revoked has no use of the invitation left."""
    code = invites.add(endpoint.store, lifetime=DAY)
    tokens.revoke(endpoint.store, enrol(endpoint, code).json()["name"])
    assert "as many devices" in refusal(enrol(endpoint, code))


def test_a_wrong_code_is_refused(endpoint: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown, revoked or expired code, or a token, gives no token; the client reports why."""
    code, revoked = (invites.add(endpoint.store, lifetime=DAY) for _ in range(2))
    invites.revoke(endpoint.store, 2)
    assert "no invitation has this code" in refusal(enrol(endpoint, revoked))
    assert "no invitation has this code" in refusal(enrol(endpoint, endpoint.token))
    now_ms = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms + int(DAY * 1000))
    assert "expired" in refusal(enrol(endpoint, code))
    client = Client(endpoint.url, None, device_id=uuid.UUID(DEVICE))
    with pytest.raises(Refused, match="has expired"):
        client.enrol(code, "ada")
    client.close()
    assert tokens.list_tokens(endpoint.store) == []


@pytest.mark.parametrize(
    "changed",
    [{"machine_id": "a\u202eb"}, {"machine_id": ""}, {"device_id": "x"}, {"code": None}, {"code": "x" * 9000}],
    ids=["invisible", "empty", "device", "null", "long"],
)
def test_a_malformed_request_is_refused(endpoint: Running, changed: dict[str, Any]) -> None:
    """It uses no code up, and a body of any size is not read."""
    code = invites.add(endpoint.store, lifetime=DAY)
    asked = {"code": code, "device_id": DEVICE, "machine_id": "ada"} | changed
    answer = httpx.post(f"{endpoint.url}/v1/enrol", json=asked, verify=False, timeout=60)
    assert answer.status_code in (400, 413)
    (invite,) = invites.list_invites(endpoint.store)
    assert invite.used == 0


def test_an_invitation_needs_valid_scopes_and_uses(endpoint: Running) -> None:
    """What can't be stored or used is refused when it is made."""
    for wrong in ({"scopes": ["all"]}, {"uses": 0}, {"user": "a b"}):
        with pytest.raises(SessiondError):
            invites.add(endpoint.store, lifetime=DAY, **wrong)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        invites.revoke(endpoint.store, 1)
