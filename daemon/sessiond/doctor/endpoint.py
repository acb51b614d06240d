"""Checks of the connection to the endpoint: name, proxy, certificate, token, protocol, clock."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from sessiond.clock import now_ms
from sessiond.config import Token, read_token
from sessiond.device import expect
from sessiond.doctor.finding import Finding, Installation, Severity
from sessiond.endpoint.client import Client
from sessiond.endpoint.machine_name import describe_taken, taken_fix
from sessiond.endpoint.transport import describe_proxy, find_proxy, proxy_origin
from sessiond.errors import ConfigError, EndpointError, Refused

SKEW = 120.0
"""Largest clock difference in seconds. It matters for certificates and for the order of sessions."""


def endpoint_checks(installation: Installation) -> Iterator[Finding]:
    """Check each step of a push in order, and stop at the first that fails."""
    endpoint = installation.loaded.config.endpoint
    if not endpoint.url:
        what = "none configured: sessions go to an archive on this machine"
        yield Finding(check="endpoint", severity=Severity.OK, what=what)
        return
    parts = urlsplit(endpoint.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    proxy = find_proxy(endpoint.url)
    if proxy is not None:
        what = f"requests go through {describe_proxy(proxy)} ({proxy_origin(proxy)})"
        fix = f"to connect directly, add {host} to NO_PROXY"
        yield Finding(check="proxy", severity=Severity.INFO, what=what, fix=fix)
    else:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            fix = "check the network, and the name in endpoint.url"
            yield Finding(check="name", severity=Severity.ERROR, what=f"{host} is not found: {error.strerror}", fix=fix)
            return
        if found[0][4][0] != host:
            yield Finding(check="name", severity=Severity.OK, what=f"{host} is {found[0][4][0]}")
    if endpoint.ca_file:
        try:
            ssl.create_default_context(cafile=endpoint.ca_file)
        except OSError as error:  # ssl.SSLError is one
            fix = "use a PEM file of certificates, or remove endpoint.ca_file"
            what = f"{endpoint.ca_file} can't be used: {error.strerror or error}"
            yield Finding(check="certificate", severity=Severity.ERROR, what=what, fix=fix)
            return
    try:
        token = read_token(installation.loaded.config, installation.environ)
    except ConfigError as error:
        what = f"not checked, because there is no token: {error}"
        yield Finding(check="endpoint", severity=Severity.ERROR, what=what, fix=error.hint)
        return
    yield from _ask(installation, token)


def _ask(installation: Installation, token: Token | None) -> Iterator[Finding]:
    endpoint = installation.loaded.config.endpoint
    try:
        device_id, name = expect(installation.directory)
        client = Client(
            endpoint.url,
            token.reveal() if token else None,
            device_id=device_id,
            timeout=endpoint.timeout,
            ca_file=endpoint.ca_file or None,
        )
    except ConfigError as error:
        yield Finding(check="endpoint", severity=Severity.ERROR, what=str(error), fix=error.hint)
        return
    began = time.monotonic()
    try:
        about = client.check()
        milliseconds = (time.monotonic() - began) * 1000
        name = installation.loaded.config.machine_id or name
        taken = "offsets" in about.features and client.is_taken(name)
    except Refused as error:
        fix = error.hint or "write a valid token to endpoint.token_file"
        yield Finding(check="token", severity=Severity.ERROR, what=str(error), fix=fix)
        return
    except EndpointError as error:
        fix = error.hint or "check that it is running, and that endpoint.url is right"
        yield Finding(check="endpoint", severity=Severity.ERROR, what=str(error), fix=fix)
        return
    finally:
        client.close()
    accepted = "accepts the token" if token else "needs no token"
    what = f"{endpoint.url} answers in {milliseconds:.0f} ms, version {about.version}, and {accepted}"
    yield Finding(check="endpoint", severity=Severity.OK, what=what)
    if taken:
        yield Finding(check="machine", severity=Severity.ERROR, what=describe_taken(name), fix=taken_fix(name))
    if client.server_time is not None:
        skew = now_ms() / 1000 - client.server_time
        if abs(skew) > SKEW:
            what = f"the clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the endpoint's"
            fix = "synchronize the clock: timedatectl set-ntp true"
            yield Finding(check="clock", severity=Severity.ERROR, what=what, fix=fix)
        else:
            yield Finding(check="clock", severity=Severity.OK, what=f"{abs(skew):.0f} s from the endpoint's")
