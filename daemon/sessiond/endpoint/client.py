"""The client side of the sync protocol. A request is acknowledged, must be retried, or is refused (see errors.py).

Rule 12: the client does not trust the endpoint. It follows no redirects, sets one deadline for a whole request, reads
answers without decompression and up to a limit, and requires JSON and the id of the push in the answer. It acts on
nothing but results, offsets and Retry-After.
"""

from __future__ import annotations

import re
import ssl
import uuid
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from sessiond import __version__
from sessiond.config.url import is_loopback
from sessiond.decoding import json_decoder
from sessiond.endpoint import answers, items, wire
from sessiond.endpoint.compression import JSON_LINES
from sessiond.endpoint.enrolment import EnrolAnswer, EnrolRequest
from sessiond.endpoint.transport import DEADLINE, ON_SENT, AnswerTooLarge, describe_proxy, find_proxy, make_transport
from sessiond.errors import EndpointError, Forbidden, Refused, Rejected, TooLarge, Unreachable, WrongEndpoint
from sessiond.memory import lean_imports

with lean_imports():
    import httpx

QUOTE, DETAIL = 200, 1000
"""Characters of an endpoint's text that are kept in an error, and in the detail about a single item."""
_JSON = msgspec.json.Encoder()
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")
"""Names by which versions of OpenSSL report that the other side answered with something else than TLS."""
_ERRNO = re.compile(r"^\[Errno -?\d+\] (\w)")
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
        """Create a client without connecting.

        `timeout`: seconds for a whole request. `transport` replaces the connection with all its wrappers.

        Raises: ConfigError, the `ca_file` or the environment's proxy can't be used.
        """
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._date: str | None = None
        """The Date header of the last answer."""
        self.sent_bytes = 0
        """Bytes of all bodies sent so far, after compression; a transport that replaces ours may not count them."""
        self._token = token
        self._device_id = device_id
        self._addresses: dict[str, httpx.URL] = {}
        self._headers = httpx.Headers(
            {
                "User-Agent": f"sessiond/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Host": httpx.URL(self.url).netloc.decode(),
                wire.DEVICE_HEADER: str(device_id),
            }
        )
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._transport = transport or make_transport(self.url, ca_file)

    @property
    def server_time(self) -> float | None:
        """The time in the last answer's Date header, in unix seconds. Only `doctor` uses it, to compare the clocks."""
        return answers.parse_date(self._date)

    def about(self) -> wire.About:
        """Return the endpoint's id, limits and features. Raises: EndpointError."""
        about = self._request("GET", "/v1", wire.About)
        if about.service != wire.SERVICE or about.protocol != wire.PROTOCOL:
            spoken = f"{self._quoted(about.service)} protocol {about.protocol}"
            raise WrongEndpoint(
                f"{self.url} speaks {spoken}, not {wire.SERVICE} {wire.PROTOCOL}",
                hint="upgrade the older of the two",
            )
        return about

    def check(self) -> wire.About:
        """Return the same as `about`, if the endpoint accepts requests with this token, or without one.

        `GET /v1` needs no token. So without one, a request that may need it is made as well.
        Raises: EndpointError; Refused if the token is wrong or missing.
        """
        about = self.about()
        if not self._token:
            self.offsets("check", [])
        return about

    def enrol(self, code: str, machine_id: str) -> EnrolAnswer:
        """Return a token for this device, with the code of an invitation. Raises: EndpointError."""
        request = EnrolRequest(code=code, device_id=self._device_id, machine_id=machine_id)
        return self._request("POST", "/v1/enrol", EnrolAnswer, _JSON.encode(request))

    def offsets(self, machine_id: str, streams: Sequence[wire.StreamKey]) -> list[wire.RemotePosition | None]:
        """Return the endpoint's positions in streams; None for one that can't be decoded. Raises: EndpointError."""
        request = wire.OffsetsRequest(machine_id=machine_id, streams=list(streams), after=True)
        answer = self._request("POST", "/v1/offsets", items.OffsetsAnswer, _JSON.encode(request))
        positions = [items.decode_position(each) for each in answer.streams]
        if len(positions) != len(streams) or any(
            position is not None and (position.session, position.stream) != (key.session, key.stream)
            for key, position in zip(streams, positions, strict=True)
        ):
            raise WrongEndpoint(f"{self.url} answered for other streams than the request names")
        return positions

    def is_taken(self, machine_id: str) -> bool:
        """Return whether another device of the user owns a machine id, as far as the endpoint says so.

        Raises: EndpointError.
        """
        request = wire.OffsetsRequest(machine_id=machine_id, streams=[])
        return self._request("POST", "/v1/offsets", items.OffsetsAnswer, _JSON.encode(request)).taken

    def push(self, pushed: Sequence[wire.Push], batch: str) -> wire.PushAnswer:
        """Push items under the id `batch` and return the answer, its results in order. Raises: EndpointError."""
        headers = {"Content-Type": JSON_LINES, wire.BATCH_HEADER: batch}
        answer = self._request("POST", "/v1/push", items.PushAnswer, _JSON.encode_lines(pushed), headers)
        if answer.batch != batch or len(answer.results) != len(pushed):
            raise WrongEndpoint(f"{self.url} answered another push than the one that was sent")
        results = items.decode_results(answer.results)
        if results is None:
            raise WrongEndpoint(f"{self.url} answered a push with results that can't be decoded")
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
        response, content = self._send(method, self._address(path), sent, body)
        self._date = response.headers.get("date")
        self._raise_for_status(response, content)
        if not answers.is_json(response):
            raise WrongEndpoint(
                f"{self.url} answered with {self._quoted(answers.content_type(response)) or 'no content type'} instead"
                " of JSON",
                hint="it may be a network's login page; otherwise check endpoint.url",
            )
        try:
            return json_decoder(answer).decode(content)
        except msgspec.ValidationError as error:
            reason = self._quoted(str(error))
            raise WrongEndpoint(f"{self.url} answered with JSON that does not follow the protocol: {reason}") from error
        except answers.UNREADABLE as error:
            raise WrongEndpoint(f"{self.url} answered with JSON that is cut short or malformed") from error

    def _send(
        self, method: str, address: httpx.URL, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[httpx.Response, bytes]:
        """Send a request; return its response and the body as it was sent. Raises: EndpointError."""
        extensions = {DEADLINE: self._timeout, ON_SENT: self._count_sent}
        every = self._headers.copy()
        for name, value in headers.items():
            every[name] = value
        if body is not None:
            every["Content-Length"] = str(len(body))
        # `content` instead of `stream` would make httpx find out Host and length, which takes ten times as long.
        stream = httpx.ByteStream(body or b"")
        request = httpx.Request(method, address, headers=every, stream=stream, extensions=extensions)
        request.read()
        try:
            response = self._transport.handle_request(request)
            return response, answers.content_of(response)
        except httpx.TransportError as error:
            raise self._translate(error) from error

    def _count_sent(self, count: int) -> None:
        self.sent_bytes += count

    def _address(self, path: str) -> httpx.URL:
        """Return the parsed URL of a path. It is parsed once, which httpx would do twice for each request."""
        return self._addresses.get(path) or self._addresses.setdefault(path, httpx.URL(self.url + path))

    def _translate(self, error: httpx.TransportError) -> EndpointError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return WrongEndpoint(
                    f"the certificate of {self.url} is not trusted: {cause.verify_message}",
                    hint="if a company's own authority signed it: sessiond config set endpoint.ca_file FILE",
                )
            if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
                return self._without_tls()
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, AnswerTooLarge):
            return WrongEndpoint(str(error))
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(f"{self.url} did not answer in time")
        # Not the number of the error, as in "[Errno 111] Connection refused".
        reason = _ERRNO.sub(lambda found: found[1].lower(), self._quoted(str(error))) or type(error).__name__
        return Unreachable(f"{self.url} can't be reached: {reason}")

    def _without_tls(self) -> WrongEndpoint:
        address = httpx.URL(self.url)
        subject = f"the endpoint at {address.host}:{address.port or 443}"
        proxy = find_proxy(self.url)
        if proxy is not None and proxy.startswith("https:"):
            subject += f" or the proxy {describe_proxy(proxy)}"
        if is_loopback(address.host):
            hint = "set endpoint.url to an address that starts with http://"
        else:
            hint = "serve it with TLS: sessiond serve --tls-cert, or a proxy in front of it"
        return WrongEndpoint(f"{subject} does not speak TLS", hint=hint)

    def _raise_for_status(self, response: httpx.Response, content: bytes) -> None:
        status = response.status_code
        if status == 200:
            return
        reason = self._quoted(answers.problem_text(content))
        text = f"{self.url} answered {status}" + (f": {reason}" if reason else "")
        if status in (401, 403):
            kind = Forbidden if status == 403 else Refused
            raise kind(text, hint="check the token: SESSIOND_TOKEN or endpoint.token_file")
        if status == 413:
            raise TooLarge(text)
        if status in (400, 415, 422):
            raise Rejected(text)
        if status == answers.LOGIN_REQUIRED:
            raise WrongEndpoint(f"{text} (the network asks for a login)", hint="log in to the network")
        if answers.is_transient(status):
            raise Unreachable(text, retry_after=answers.parse_retry_after(response.headers.get("retry-after")))
        if 300 <= status < 400:
            host = self._quoted(answers.redirect_host(response.headers.get("location", "")))
            raise WrongEndpoint(
                f"{text} (a redirect to {host or 'no host'}, not followed)", hint="set endpoint.url to its target"
            )
        raise WrongEndpoint(text, hint="check endpoint.url")
