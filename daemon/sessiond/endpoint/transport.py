"""The HTTP transport to an endpoint: one connection, one deadline for a whole request, answers of bounded size.

    CompressingTransport   compresses the bodies of pushes (compression.py)
    DeadlineTransport      ends each request at its deadline and reads the whole answer
    httpx.HTTPTransport    one HTTP/1.1 connection, direct or through the proxy that the environment names

Each is an `httpx.BaseTransport`, so a test replaces any of them. A transport neither follows redirects nor keeps
cookies, so neither has to be turned off (rule 12). An httpx.Client around it would double the time of each request.
"""

from __future__ import annotations

import os
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator

from sessiond.config import make_ssl_context
from sessiond.config.url import is_loopback
from sessiond.endpoint.compression import CompressingTransport
from sessiond.endpoint.deadline import Connection, DeadlineTimer
from sessiond.errors import ConfigError
from sessiond.memory import lean_imports

with lean_imports():
    import httpx

IDLE = 60.0
"""Seconds after which an unused connection is not used again."""
ANSWER_CAP = 4 << 20
"""Bytes of an answer that are read. Answers of an endpoint are far smaller; without a limit, one could fill memory."""
TIMEOUT = 30.0
"""Seconds for a request that does not name a deadline."""
DEADLINE = "sessiond.deadline"
"""Extension of a request: the seconds that all of it may take."""
ON_SENT = "sessiond.on_sent"
"""Extension of a request: called with the length of each part of the body before it is sent."""
CLOSED = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""Errors of httpx when the other side has closed the connection before its answer."""
PART = 64 << 10
"""Bytes of a body that are sent between two looks at the clock."""


class AnswerTooLarge(httpx.TransportError):
    """The answer has more than ANSWER_CAP bytes."""


def make_transport(
    url: str, ca_file: str | None = None, *, network: httpx.BaseTransport | None = None
) -> httpx.BaseTransport:
    """Return the transport to an endpoint. `network` replaces the connection to the network.

    Raises:
        ConfigError: the `ca_file` or the environment's proxy can't be used.
    """
    return CompressingTransport(DeadlineTransport(network or connect(url, ca_file)))


def connect(url: str, ca_file: str | None = None) -> httpx.HTTPTransport:
    """Return an HTTP/1.1 transport with one connection.

    Raises:
        ConfigError: the `ca_file` or the environment's proxy can't be used.
    """
    verify: ssl.SSLContext | bool = False  # without TLS, no certificate authorities need to be loaded
    if url.startswith("https:"):
        verify = make_ssl_context(ca_file or "")
    limits = httpx.Limits(max_connections=1, keepalive_expiry=IDLE)
    proxy = find_proxy(url)
    try:
        return httpx.HTTPTransport(verify=verify, proxy=proxy, limits=limits)
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # httpx imports a package for socks5: proxies
        if proxy is None:
            raise
        raise ConfigError(
            f"the proxy {describe_proxy(proxy)} ({proxy_origin(proxy)}) can't be used",
            hint="sessiond needs a proxy with an http:// or https:// address; NO_PROXY excludes the endpoint's host",
        ) from error


class DeadlineTransport(httpx.BaseTransport):
    """Sends each request with one deadline for all of it, and returns a response whose body was read completely.

    A timeout of httpx is for a single read: headers that arrive one byte at a time would never time out. So a timer in
    another thread shuts the connection down at the deadline.

    An endpoint may close a kept connection at the moment when a request is sent. If no part of an answer came back, the
    request is sent once more over a new connection: each request of the protocol has the same effect when it is
    repeated. A new connection that fails is an error. Not thread-safe.
    """

    def __init__(self, network: httpx.BaseTransport) -> None:
        self._network = network
        self._connection = Connection()
        self._timer = DeadlineTimer(self._connection.abort)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its response with the whole body, as it was sent.

        Raises:
            httpx.TimeoutException: the deadline passed.
            AnswerTooLarge: the answer is too large to be read.
            httpx.TransportError: the connection failed.
        """
        seconds = request.extensions.get(DEADLINE, TIMEOUT)
        deadline = time.monotonic() + seconds
        self._connection.reset()
        self._timer.arm(deadline)
        try:
            return self._exchange(request, seconds, deadline)
        except httpx.TimeoutException:
            raise
        except httpx.TransportError as error:
            if time.monotonic() >= deadline:  # then the timer is what broke the connection
                raise httpx.ReadTimeout("the deadline passed") from error
            raise
        finally:
            self._timer.disarm()

    def _exchange(self, request: httpx.Request, seconds: float, deadline: float) -> httpx.Response:
        timeouts = httpx.Timeout(min(seconds, 10.0), connect=min(seconds, 5.0))
        sent = httpx.Request(
            request.method,
            request.url,
            headers=request.headers,
            stream=_Body(request.read(), deadline, request.extensions.get(ON_SENT)),
            extensions={"timeout": timeouts.as_dict(), "trace": self._connection.trace},
        )
        try:
            response = self._network.handle_request(sent)
        except CLOSED:
            if not self._connection.is_kept or time.monotonic() >= deadline:
                raise
            response = self._network.handle_request(sent)
        try:
            content = _read(response, deadline)
        finally:
            response.close()
        return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(content))

    def close(self) -> None:
        """Close the connection."""
        self._timer.close()
        self._network.close()


class _Body(httpx.SyncByteStream):
    """A body that is sent in parts, until the deadline."""

    def __init__(self, content: bytes, deadline: float, on_sent: Callable[[int], None] | None) -> None:
        self._content = content
        self._deadline = deadline
        self._on_sent = on_sent

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), PART):
            if time.monotonic() > self._deadline:
                raise httpx.WriteTimeout("the deadline passed while sending")
            part = self._content[start : start + PART]
            if self._on_sent is not None:
                self._on_sent(len(part))
            yield part


def _read(response: httpx.Response, deadline: float) -> bytes:
    """Return the body as it was sent: decompressing it could fill memory."""
    content = bytearray()
    for part in response.iter_raw():
        content += part
        if len(content) > ANSWER_CAP:
            raise AnswerTooLarge(f"the answer is longer than {ANSWER_CAP} bytes")
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the deadline passed while reading the answer")
    return bytes(content)


def find_proxy(url: str) -> str | None:
    """Return the URL of the proxy for an endpoint, which may contain a password; None to connect directly.

    No proxy is used for an address of this machine, or for a host that the environment excludes (NO_PROXY). The
    environment is that of this process, as urllib reads it; on macOS, the system settings follow.
    """
    address = httpx.URL(url)
    if is_loopback(address.host) or urllib.request.proxy_bypass(address.host):
        return None
    proxies = urllib.request.getproxies()
    found = proxies.get(address.scheme) or proxies.get("all")
    return found if not found or "://" in found else f"http://{found}"


def describe_proxy(proxy: str) -> str:
    """Return the scheme, host and port of a proxy without its user name and password."""
    scheme, _, rest = proxy.partition("://")
    # Everything up to the last @ may belong to the password, even a slash that should have been percent-encoded.
    return f"{scheme}://{rest.rpartition('@')[2].partition('/')[0]}"


def proxy_origin(proxy: str) -> str:
    """Return the name of the environment variable with this proxy."""
    values = {proxy, proxy.removeprefix("http://")}
    names = (name for name, value in os.environ.items() if name.lower().endswith("_proxy") and value in values)
    return next(names, "system settings")
