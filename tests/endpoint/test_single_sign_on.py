"""Single sign-on: the user in a proxy's header is believed only from the proxy's own address, and may only read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from endpoint_lines import DEVICE, SESSION, Pusher, append, record
from stores import new_store

from sessiond.cli import main
from sessiond.endpoint.server import audit, tokens
from sessiond.endpoint.server.app import Settings
from sessiond.endpoint.server.run import running_store
from sessiond.endpoint.server.trusted_proxy import TrustedProxy
from sessiond.errors import ConfigError

HEADER = "X-Forwarded-User"
ONE = f"/v1/sessions/ada/{SESSION}"


@contextmanager
def signing_in(path: Path, kind: str, *networks: str, header: str = HEADER) -> Iterator[httpx.Client]:
    """Serve what ada pushed behind a proxy with these networks; yield a client without a token."""
    settings = Settings(proxy=TrustedProxy(networks, header))
    with new_store(kind, path) as store, running_store(store, settings=settings) as it:
        with Pusher(it.url, tokens.add(store, "laptop", user="ada")) as ada:
            assert ada.said(record(), append(0, b"text")) == ["stored"] * 2
        with httpx.Client(base_url=it.url, verify=False, timeout=60) as client:
            yield client
        assert all(each.action != "session.read" for each in audit.list_entries(store))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_user_of_the_proxy_reads_and_does_nothing_else(tmp_path: Path, kind: str) -> None:
    """It reads what it has itself, whatever it asks for, and can't push, erase, administer or pass for a device."""
    with signing_in(tmp_path, kind, "127.0.0.0/8", "10.0.0.0/8") as client:
        ada, eve = {HEADER: "ada"}, {HEADER: "eve"}
        assert client.get(f"{ONE}/streams/main", headers=ada).content == b"text"
        assert len(client.get("/v1/sessions", headers=ada).json()["sessions"]) == 1
        asked = {"machine_id": "ada", "streams": [{"session": SESSION, "stream": "main"}]}
        assert client.post("/v1/offsets", json=asked, headers=ada).json()["streams"][0]["length"] == 4
        assert client.get(f"{ONE}/streams/main", headers=eve).status_code == 404
        assert client.get("/v1/sessions", headers=eve).json()["sessions"] == []
        as_device = ada | {"Sessiond-Device": DEVICE}
        assert client.get(ONE, headers=as_device).json()["device_id"] is None
        assert client.get("/v1", headers=as_device).json().get("last_batch") is None
        for method, path in (
            *(("POST", "/v1/push"), ("DELETE", ONE), ("DELETE", f"/v1/sessions/{SESSION}")),
            *(("GET", "/metrics"), ("GET", "/v1/sessions?user=eve"), ("GET", f"{ONE}?user=ada")),
        ):
            answer = client.request(method, path, headers=as_device)
            assert (answer.status_code, answer.json()["type"]) == (403, "forbidden"), path
        assert client.get("/v1/sessions").status_code == 401, "the proxy names nobody"
        assert client.get("/v1/sessions", headers={HEADER: ""}).status_code == 401


def test_another_address_is_never_believed(tmp_path: Path) -> None:
    """Whatever a request says about where it came from: the header is then ignored, as if it were not there."""
    with signing_in(tmp_path, "sqlite", "10.0.0.0/8", "192.0.2.7", "::2") as client:
        for more in (
            {},
            {"X-Forwarded-For": "10.0.0.1"},
            {"X-Real-IP": "10.0.0.1", "X-Forwarded-For": "10.0.0.1, 127.0.0.1", "X-Forwarded-Proto": "https"},
            {"Forwarded": "for=10.0.0.1"},
        ):
            answer = client.get("/v1/sessions", headers={HEADER: "ada"} | more)
            assert (answer.status_code, answer.json()["type"]) == (401, "unauthorized")
        twice = [(HEADER, "ada"), (HEADER, "eve")]
        assert client.get("/v1/sessions", headers=twice).status_code == 401
        assert client.get("/v1", headers={HEADER: "a b"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [(HEADER, "ada"), (HEADER, "eve")],
        [(HEADER, "eve"), (HEADER.lower(), "ada")],
        [(HEADER, "eve, ada")],
        [(HEADER, "eve,ada")],
        [(HEADER, "eve ada")],
        [(HEADER, "x" * 101)],
        [(HEADER, "a\xe9"), (HEADER, "")],
        [(HEADER, "a\xe9")],
    ],
)
def test_a_header_that_the_client_may_have_added_to_is_refused(tmp_path: Path, headers: list[tuple[str, str]]) -> None:
    """A proxy that adds its value to the client's does not replace it, so neither value is believed."""
    with signing_in(tmp_path, "sqlite", "127.0.0.1") as client:
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        answer = client.get("/v1/sessions", headers=encoded)
        assert (answer.status_code, answer.json()["type"]) == (400, "invalid")


def test_a_token_counts_more_than_the_header(tmp_path: Path) -> None:
    """Devices come through the same proxy. A wrong token gets nothing, whomever the proxy names."""
    with signing_in(tmp_path, "sqlite", "127.0.0.1", header="Remote-User") as client:
        wrong = {"Authorization": "Bearer sd_wrong", "Remote-User": "ada"}
        for path in ("/v1", "/v1/sessions"):
            assert client.get(path, headers=wrong).status_code == 401
        assert (
            client.get("/v1/sessions", headers={"Authorization": "Basic YTpi", "Remote-User": "ada"}).status_code == 401
        )
        assert client.get("/v1/sessions", headers={"Remote-User": "ada"}).status_code == 200
        assert client.get("/v1/sessions", headers={HEADER: "ada"}).status_code == 401


def test_a_name_may_have_any_letters(tmp_path: Path) -> None:
    """The header is UTF-8, and so is the name that the token was added with."""
    settings = Settings(proxy=TrustedProxy(["127.0.0.1"]))
    with new_store("sqlite", tmp_path) as store, running_store(store, settings=settings) as it:
        with Pusher(it.url, tokens.add(store, "laptop", user="zo\u00eb")) as zoe:
            assert zoe.said(append(0, b"text")) == ["stored"]
        answer = httpx.get(
            f"{it.url}/v1/unlisted", headers=[(HEADER.encode(), "zo\u00eb".encode())], verify=False, timeout=60
        )
        assert len(answer.json()["sessions"]) == 1


def test_an_ipv4_address_on_a_socket_for_both_protocols_is_recognised(tmp_path: Path) -> None:
    """Such a socket shows ::ffff:127.0.0.1."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("no socket for both protocols here")
    proxy = TrustedProxy(["127.0.0.1"])
    assert proxy._trusts("::ffff:127.0.0.1")
    assert not proxy._trusts("::ffff:127.0.0.2")
    assert not proxy._trusts("::1")
    assert not proxy._trusts("unknown")


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "proxy.example.org", "10.0.0.1/8", ""])
def test_a_network_that_is_none_or_all_is_refused(tmp_path: Path, network: str) -> None:
    """A mistake here would let anyone read everything."""
    with pytest.raises(ConfigError, match="--trust-proxy"):
        TrustedProxy([network])
    assert main(["serve", "--data", str(tmp_path), "--trust-proxy", network]) == 78


def test_a_header_without_a_proxy_is_refused(tmp_path: Path) -> None:
    """Whoever names one expects that people can sign in."""
    assert main(["serve", "--data", str(tmp_path), "--user-header", "Remote-User"]) == 78


@pytest.mark.parametrize("header", ["Authorization", "Sessiond-Device", "a b", "X_User", ""])
def test_a_header_that_clients_send_is_refused(header: str) -> None:
    """Some proxies drop names with an underscore, and others turn them into those with a hyphen."""
    with pytest.raises(ConfigError, match="--user-header"):
        TrustedProxy(["10.0.0.1"], header)
