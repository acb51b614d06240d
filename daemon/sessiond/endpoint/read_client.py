"""The client that also reads sessions and the bytes of streams from an endpoint, and erases sessions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

from sessiond.decoding import json_decoder
from sessiond.endpoint import wire
from sessiond.endpoint.answers import UNREADABLE, problem_text
from sessiond.endpoint.client import Client
from sessiond.endpoint.erasure import ForgottenAnswer, Receipt
from sessiond.errors import NotFound, WrongEndpoint
from sessiond.memory import lean_imports

with lean_imports():
    import httpx

T = TypeVar("T")
MAX_LISTED = 200_000
"""Streams and generations of a session that are read. A list without an end must not fill memory (rule 12)."""
PAGE = 100
"""Sessions on one page."""
PIECE = 2 << 20
"""Bytes of a stream in one request. The client's limit for an answer is higher."""


class ReadClient(Client):
    """A client that also reads from the endpoint, and erases there."""

    def endpoint_id(self) -> str:
        """Return the id of the endpoint. Raises: EndpointError."""
        return str(self.about().endpoint_id)

    def sessions(
        self, after: str | None = None, limit: int = PAGE, wanted: Mapping[str, str] | None = None
    ) -> wire.SessionsAnswer:
        """Return a page of sessions; `after` is `next` of the previous page, `wanted` has parameters of the request.

        Raises: Rejected if the endpoint does not know a parameter, EndpointError.
        """
        given = {"limit": str(limit), **(wanted or {})} | ({} if after is None else {"after": after})
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in given.items())
        return self._get(f"/v1/sessions?{query}", wire.SessionsAnswer, missing=())

    def changes(self, since: str | None, limit: int = PAGE) -> wire.ChangesAnswer:
        """Return the sessions that changed after `since`, `next` of an earlier answer.

        Raises: NotFound if the endpoint did not issue `since`, EndpointError.
        """
        path = f"/v1/changes?limit={limit}" + (f"&since={quote(since)}" if since else "")
        return self._get(path, wire.ChangesAnswer, missing=(404, 410))

    def unlisted(self, after: str | None = None, limit: int = PAGE) -> wire.UnlistedAnswer:
        """Return a page of the sessions that have streams but no record. Raises: EndpointError."""
        path = f"/v1/unlisted?limit={limit}" + (f"&after={quote(after)}" if after else "")
        return self._get(path, wire.UnlistedAnswer, missing=())

    def session(self, machine_id: str, session: uuid.UUID) -> wire.StoredSession:
        """Return one session with its record. Raises: NotFound if it has no record there, EndpointError."""
        return self._get(f"/v1/sessions/{quote(machine_id)}/{session}", wire.StoredSession)

    def streams(self, machine_id: str, session: uuid.UUID) -> list[wire.StoredStream]:
        """Return the streams of a session with all their generations. Raises: NotFound, EndpointError."""
        path = f"/v1/sessions/{quote(machine_id)}/{session}/streams"
        found: dict[str, wire.StoredStream] = {}
        answer, count = self._get(path, wire.StreamsAnswer), 0
        while True:
            for stream in answer.streams:
                whole = found.setdefault(stream.name, stream)
                if whole is not stream:
                    whole.generations.extend(stream.generations)
                count += 1 + len(stream.generations)
            if answer.next is None:
                return list(found.values())
            if not answer.streams or count > MAX_LISTED:
                raise WrongEndpoint(f"{self.url} lists streams without an end")
            answer = self._get(f"{path}?after={quote(answer.next)}", wire.StreamsAnswer)

    def stream(
        self,
        machine_id: str,
        session: uuid.UUID,
        name: str,
        *,
        generation: int | None = None,
        start: int = 0,
        end: int | None = None,
    ) -> Iterator[bytes]:
        """Iterate over the bytes of a stream from `start` up to `end`, in pieces.

        Without `generation`, they are of the current one. With it, they never change: bytes are only appended.

        Raises: NotFound if the endpoint does not have the stream or its bytes are damaged, EndpointError.
        """
        chosen = "" if generation is None else f"?generation={generation}"
        path = f"/v1/sessions/{quote(machine_id)}/{session}/streams/{quote(name)}{chosen}"
        at, whole = start, False
        while not whole and (end is None or at < end):
            last = at + PIECE - 1 if end is None else min(at + PIECE, end) - 1
            response, content = self._fetch(path, {"Range": f"bytes={at}-{last}"})
            if response.status_code == 404:
                reason = self._quoted(problem_text(content)) or f"it has no stream {name} of session {session}"
                raise NotFound(f"{self.url} answered 404: {reason}")
            if response.status_code == 416 and at:
                return
            if response.status_code != 206:
                self._raise_for_status(response, content)
            if response.status_code == 200:
                content = content[at:]  # an endpoint without ranges sends all of it
            whole = response.status_code == 200 or len(content) < last + 1 - at
            if end is not None:
                content = content[: end - at]
            at += len(content)
            yield content

    def forget(self, session: uuid.UUID) -> Receipt:
        """Erase a session of all machines that the token may erase; return what was erased.

        Raises: EndpointError, also if the endpoint can't erase sessions.
        """
        response, content = self._fetch(f"/v1/sessions/{session}", {}, method="DELETE")
        if response.status_code in (404, 405, 501):
            raise WrongEndpoint(f"{self.url} can't erase sessions", hint="upgrade the endpoint")
        self._raise_for_status(response, content)
        return self._decoded(content, Receipt)

    def forgotten(self, since: str | None, limit: int = 1000) -> ForgottenAnswer:
        """Return the sessions that were erased after `since`, `next` of an earlier answer.

        Raises: NotFound if the endpoint did not issue `since` or can't erase sessions, EndpointError.
        """
        path = f"/v1/forgotten?limit={limit}" + (f"&since={quote(since)}" if since else "")
        return self._get(path, ForgottenAnswer, missing=(404, 405, 410))

    def _get(self, path: str, answer: type[T], *, missing: Sequence[int] = (404,)) -> T:
        """Return an answer of this type. Raises: NotFound for a status in `missing`, EndpointError."""
        response, content = self._fetch(path, {})
        if response.status_code in missing:
            raise NotFound(f"{self.url} has no {path}")
        self._raise_for_status(response, content)
        return self._decoded(content, answer)

    def _decoded(self, content: bytes, answer: type[T]) -> T:
        try:
            return json_decoder(answer).decode(content)
        except UNREADABLE as error:
            raise WrongEndpoint(f"{self.url} answered with JSON that does not follow the protocol: {error}") from error

    def _fetch(self, path: str, headers: dict[str, str], method: str = "GET") -> tuple[httpx.Response, bytes]:
        # Not with `_request`: the bytes of a stream are not JSON, and there are too many addresses to cache.
        try:
            address = httpx.URL(self.url + path)
        except httpx.InvalidURL as error:  # `next` of a page may be too long
            raise WrongEndpoint(f"{self.url} answered with a position that can't be requested") from error
        return self._send(method, address, headers)
