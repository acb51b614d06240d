"""Tokens: made once, kept hashed, refused when revoked."""

from __future__ import annotations

import os

import httpx
import pytest
from endpoint_lines import SESSION

from sessiond.endpoint.server import Running, tokens
from sessiond.endpoint.server.schema import FILE
from sessiond.errors import NotFound, SessiondError

ADDRESSES = [
    ("POST", "/v1/push"),
    ("POST", "/v1/offsets"),
    ("GET", "/v1/changes"),
    ("GET", "/v1/sessions"),
    ("GET", f"/v1/sessions/ada/{SESSION}"),
    ("GET", f"/v1/sessions/ada/{SESSION}/streams"),
    ("GET", f"/v1/sessions/ada/{SESSION}/streams/main"),
]


def test_nothing_is_told_without_the_token(endpoint: Running) -> None:
    """Every address but `GET /v1` needs it, whole and as a bearer token."""
    token = endpoint.token
    wrong = [None, "", "Bearer", "Bearer sd_wrong", f"Basic {token}", token, f"Bearer x{token}", f"Bearer {token}x"]
    with httpx.Client(base_url=endpoint.url, verify=False) as client:
        for method, path in ADDRESSES:
            for authorization in wrong:
                headers = {} if authorization is None else {"Authorization": authorization}
                answer = client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["type"]) == (401, "unauthorized"), (path, authorization)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert token not in answer.text


def test_a_wrong_token_is_refused_before_the_body_is_read(endpoint: Running) -> None:
    """Who may not push can't make us read."""
    answer = httpx.post(f"{endpoint.url}/v1/push", content=bytes(9 << 20), headers={"Authorization": "Bearer no"})
    assert answer.status_code == 401
    assert httpx.get(f"{endpoint.url}/v1", headers={"Authorization": "Bearer no"}).status_code == 401


def test_tokens_come_and_go_while_the_endpoint_runs(endpoint: Running) -> None:
    """A lost laptop is locked out by one command."""
    secret = tokens.add(endpoint.store, "laptop")
    other = tokens.add(endpoint.store, "desk")
    assert [each.name for each in tokens.every(endpoint.store)] == ["desk", "laptop"]

    def status(token: str) -> int:
        return httpx.get(f"{endpoint.url}/v1/changes", headers={"Authorization": f"bearer {token}"}).status_code

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
    """Who steals the file can't push."""
    secret = tokens.add(endpoint.store, "laptop")
    assert len(secret) > 43
    directory = endpoint.store.directory
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        assert os.stat(path).st_mode & 0o077 == 0, name
        with open(path, "rb") as file:
            assert secret.encode() not in file.read()
    assert os.path.exists(os.path.join(directory, FILE))
