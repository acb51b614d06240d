"""The client side of the sync protocol. A request is acknowledged, must be retried, or is refused (see errors.py).

Rule 12: the client does not trust the endpoint. It follows no redirects, sets one deadline for a whole request, reads
answers without decompression and up to a limit, and requires JSON and the id of the push in the answer. It acts on
nothing but results, offsets and Retry-After.
"""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from sessiond import __version__, zstd
from sessiond.config import make_ssl_context
from sessiond.endpoint import answers, dictionary, items, wire
from sessiond.endpoint.deadline import Connection, DeadlineTimer
from sessiond.endpoint.transport import make_transport
from sessiond.errors import EndpointError, Refused, Rejected, TooLarge, Unreachable, WrongEndpoint
from sessiond.memory import hide_modules

with hide_modules("httpx._main"):
    import httpx

ANSWER_CAP = 4 << 20
"""Bytes of an answer that are read. Answers of an endpoint are far smaller; without a limit, one could fill memory."""
QUOTE, DETAIL = 200, 1000
"""Characters of an endpoint's text that are kept in an error, and in the detail about a single item."""
_JSON = msgspec.json.Encoder()
T = TypeVar("T")


class Client:
    """One connection to one endpoint. Not thread-safe: it belongs to the upload thread."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        device_id: uuid.UUID,
        timeout: float = 30.0,
        ca_file: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Create a client without connecting. `timeout`: seconds for a whole request.

        Raises: ConfigError, the `ca_file` or the environment's proxy can't be used.
        """
        self.url = url.rstrip("/")
        self._timeout = timeout
        self.server_time: float | None = None
        """The time in the last answer's Date header, in unix seconds. Only `doctor` uses it, to compare the clocks."""
        self.sent_bytes = 0
        """Bytes of all bodies sent so far, after compression."""
        self._token = token
        self._addresses: dict[str, httpx.URL] = {}
        self._connection = Connection()
        self._deadline_timer = DeadlineTimer(self._connection.abort)
        self._dictionary = dictionary.PushDictionary()
        self._headers = {
            "User-Agent": f"sessiond/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            wire.DEVICE_HEADER: str(device_id),
        }
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        verify: ssl.SSLContext | bool = False  # without TLS, no certificate authorities need to be loaded
        if self.url.startswith("https:"):
            verify = make_ssl_context(ca_file or "")
        timeouts = httpx.Timeout(min(timeout, 10.0), connect=min(timeout, 5.0))
        self._extensions = {"timeout": timeouts.as_dict(), "trace": self._connection.trace}
        self._transport = transport or make_transport(self.url, verify)

    def about(self) -> wire.About:
        """Return the endpoint's id, limits and features. Raises: EndpointError."""
        about = self._request("GET", "/v1", wire.About)
        if about.service != wire.SERVICE or about.protocol != wire.PROTOCOL:
            spoken = f"{self._quoted(about.service)} protocol {about.protocol}"
            raise WrongEndpoint(
                f"{self.url} speaks {spoken}, not {wire.SERVICE} {wire.PROTOCOL}",
                hint="upgrade the older of the two",
            )
        self._dictionary.offer(about.features)
        return about

    def offsets(self, machine_id: str, streams: Sequence[wire.StreamKey]) -> list[wire.RemotePosition | None]:
        """Return the endpoint's positions in streams; None for one that can't be decoded. Raises: EndpointError."""
        request = wire.OffsetsRequest(machine_id=machine_id, streams=list(streams))
        answer = self._request("POST", "/v1/offsets", items.OffsetsAnswer, _JSON.encode(request))
        positions = [items.decode_position(each) for each in answer.streams]
        if len(positions) != len(streams) or any(
            position is not None and (position.session, position.stream) != (key.session, key.stream)
            for key, position in zip(streams, positions, strict=True)
        ):
            raise WrongEndpoint(f"{self.url} answered for other streams than the request names")
        return positions

    def push(self, pushed: Sequence[wire.Push], batch: str) -> wire.PushAnswer:
        """Push items under the id `batch` and return the answer, its results in order. Raises: EndpointError."""
        body, known = _JSON.encode_lines(pushed), self._dictionary.take()
        if known:
            try:
                return self._push(len(pushed), body, batch, known)
            except (Rejected, Refused, WrongEndpoint):
                pass  # the endpoint has another dictionary, or a proxy does not know the encoding: send it without one
        return self._push(len(pushed), body, batch, b"")

    def _push(self, count: int, body: bytes, batch: str, known: bytes) -> wire.PushAnswer:
        headers = {
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": dictionary.ENCODING if known else "zstd",
            wire.BATCH_HEADER: batch,
        }
        sent = dictionary.pack(body, known, 3) if known else zstd.compress(body, 3)
        answer = self._request("POST", "/v1/push", items.PushAnswer, sent, headers)
        if answer.batch != batch or len(answer.results) != count:
            raise WrongEndpoint(f"{self.url} answered another push than the one that was sent")
        results = items.decode_results(answer.results)
        if results is None:
            raise WrongEndpoint(f"{self.url} answered a push with results that can't be decoded")
        self._dictionary.keep(known, body)
        masked = [self._masked(result) for result in results]
        return wire.PushAnswer(batch=batch, results=masked, previous=answer.previous)

    def _masked(self, result: wire.Result) -> wire.Result:
        """Return a result whose problem is safe to store, log and show: without the token and control characters."""
        problem = result.problem
        if problem is None:
            return result
        detail = None if problem.detail is None else self._quoted(problem.detail, DETAIL)
        safe = msgspec.structs.replace(problem, title=self._quoted(problem.title), detail=detail)
        return msgspec.structs.replace(result, problem=safe)

    def _quoted(self, text: str, limit: int = QUOTE) -> str:
        """Return an endpoint's text as it may be quoted in an error: without the token, printable and short.

        The token is masked before the text is shortened; otherwise the first half of a token could remain.
        """
        if self._token:
            text = text.replace(self._token, "***")
        return "".join(c if c.isprintable() else "?" for c in text[:limit])

    def limit(self, timeout: float) -> None:
        """Lower the timeout of later requests to `timeout` seconds, because the daemon is shutting down."""
        self._timeout = min(self._timeout, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._deadline_timer.close()
        self._transport.close()

    def _request(
        self,
        method: str,
        path: str,
        answer: type[T],
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> T:
        sent = {"Content-Type": "application/json", **(headers or {})} if body is not None else {}
        if body is not None:
            sent["Content-Length"] = str(len(body))
            self.sent_bytes += len(body)
        response, content = self._timed(method, self._address(path), sent, body)
        self.server_time = answers.parse_date(response.headers.get("date"))
        self._raise_for_status(response, content)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise WrongEndpoint(
                f"{self.url} answered with {self._quoted(kind) or 'no content type'} instead of JSON",
                hint="it may be a network's login page; otherwise check endpoint.url",
            )
        try:
            return msgspec.json.decode(content, type=answer)
        except msgspec.ValidationError as error:
            reason = self._quoted(str(error))
            raise WrongEndpoint(f"{self.url} answered with JSON that does not follow the protocol: {reason}") from error
        except answers.UNREADABLE as error:
            raise WrongEndpoint(f"{self.url} answered with JSON that is cut short or malformed") from error

    def _timed(
        self, method: str, address: httpx.URL, headers: dict[str, str], body: bytes | None
    ) -> tuple[httpx.Response, bytes]:
        """Send a request and read its answer before the deadline. Raises: EndpointError."""
        deadline = time.monotonic() + self._timeout
        # A timeout of httpx is for a single read: headers that arrive one byte at a time would never time out.
        self._connection.reset()
        self._deadline_timer.arm(deadline)
        try:
            return self._exchange(method, address, headers, body, deadline)
        except httpx.TransportError as error:
            if time.monotonic() >= deadline:
                raise Unreachable(f"{self.url} did not answer in time") from error
            raise self._translate(error) from error
        finally:
            self._deadline_timer.disarm()

    def _exchange(
        self, method: str, address: httpx.URL, headers: dict[str, str], body: bytes | None, deadline: float
    ) -> tuple[httpx.Response, bytes]:
        """Send a request and return the response with its whole body. Raises: httpx.TransportError, WrongEndpoint."""
        content = None if body is None else _parts(body, deadline)
        request = httpx.Request(
            method, address, headers=self._headers | headers, content=content, extensions=self._extensions
        )
        response = self._transport.handle_request(request)
        try:
            return response, _read(response, deadline)
        finally:
            response.close()

    def _address(self, path: str) -> httpx.URL:
        """Return the parsed URL of a path. It is parsed once, which httpx would do twice for each request."""
        return self._addresses.get(path) or self._addresses.setdefault(path, httpx.URL(self.url + path))

    def _translate(self, error: httpx.TransportError) -> EndpointError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return WrongEndpoint(
                    f"the certificate of {self.url} is not trusted: {cause.verify_message}",
                    hint="if a company's own authority signed it, set endpoint.ca_file",
                )
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(f"{self.url} did not answer in time")
        return Unreachable(f"{self.url} can't be reached: {self._quoted(str(error)) or type(error).__name__}")

    def _raise_for_status(self, response: httpx.Response, content: bytes) -> None:
        status = response.status_code
        if status == 200:
            return
        reason = self._quoted(answers.problem_text(content))
        text = f"{self.url} answered {status}" + (f": {reason}" if reason else "")
        if status in (401, 403):
            raise Refused(text, hint="check the token: SESSIOND_TOKEN or endpoint.token_file")
        if status == 413:
            raise TooLarge(text)
        if status in (400, 415, 422):
            raise Rejected(text)
        if status == 511:
            raise WrongEndpoint(f"{text} (the network asks for a login)", hint="log in to the network")
        if status in (408, 425, 429) or status >= 500:
            raise Unreachable(text, retry_after=answers.parse_retry_after(response.headers.get("retry-after")))
        if 300 <= status < 400:
            host = self._quoted(answers.redirect_host(response.headers.get("location", "")))
            raise WrongEndpoint(
                f"{text} (a redirect to {host or 'no host'}, not followed)", hint="set endpoint.url to its target"
            )
        raise WrongEndpoint(text, hint="check endpoint.url")


def _parts(body: bytes, deadline: float) -> Iterator[bytes]:
    for start in range(0, len(body), 64 << 10):
        if time.monotonic() > deadline:
            raise httpx.WriteTimeout("the deadline passed while sending")
        yield body[start : start + (64 << 10)]


def _read(response: httpx.Response, deadline: float) -> bytes:
    content = bytearray()
    for part in response.iter_raw():
        content += part
        if len(content) > ANSWER_CAP:
            raise WrongEndpoint(f"the answer is longer than {ANSWER_CAP} bytes")
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the deadline passed while reading the answer")
    return bytes(content)
