"""Reads the list of sessions for `ls` with `http.client`, because importing httpx takes longer than all else of `ls`.

It takes the usual answer of an endpoint. Everything else raises `Unsuitable`: a proxy, another status, an answer that
is no list. The caller then asks again with `ReadClient`, which knows proxies and reports what is wrong.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from sessiond import __version__
from sessiond.config import make_ssl_context
from sessiond.config.url import is_loopback
from sessiond.decoding import json_decoder
from sessiond.endpoint.wire import DEVICE_HEADER, SessionsAnswer
from sessiond.errors import EndpointError

LONGEST = 4 << 20
"""Bytes of an answer that are read, as many as in transport.py: an endpoint must not fill memory."""


class Unsuitable(EndpointError):
    """The endpoint can't be asked in this way, or did not answer with a list."""


class SessionList:
    """A connection to one endpoint that reads its list of sessions. Used by one thread."""

    def __init__(self, url: str, token: str | None, *, device_id: UUID, timeout: float, ca_file: str) -> None:
        """Create it without connecting. `timeout`: seconds for a part of an answer. Raises: Unsuitable, ConfigError."""
        self.url = url.rstrip("/")
        address = urlsplit(self.url)
        host = address.hostname or ""
        if not (is_loopback(host) or _connects_directly(os.environ)):
            raise Unsuitable(f"{self.url} may need a proxy")
        self._path = f"{address.path}/v1/sessions"
        self._connection = (
            http.client.HTTPSConnection(host, address.port, timeout=timeout, context=make_ssl_context(ca_file))
            if address.scheme == "https"
            else http.client.HTTPConnection(host, address.port, timeout=timeout)
        )
        self._headers = {
            "User-Agent": f"sessiond/{__version__}",
            "Accept": "application/json",
            DEVICE_HEADER: str(device_id),
        }
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def sessions(self, after: str | None, limit: int, wanted: Mapping[str, str]) -> SessionsAnswer:
        """Return a page of sessions, as `ReadClient.sessions` does. Raises: Unsuitable."""
        given = {"limit": str(limit), **wanted} | ({} if after is None else {"after": after})
        try:
            self._connection.request("GET", f"{self._path}?{urlencode(given)}", headers=self._headers)
            with self._connection.getresponse() as response:
                content = response.read(LONGEST + 1)
                if response.status != 200 or response.headers.get_content_type() != "application/json":
                    raise Unsuitable(f"{self.url} did not answer with a list")
                if len(content) > LONGEST or not response.isclosed():
                    raise Unsuitable(f"{self.url} answered with more than {LONGEST} bytes")
            return json_decoder(SessionsAnswer).decode(content)
        except (http.client.HTTPException, OSError, ValueError, RecursionError) as error:
            raise Unsuitable(f"{self.url}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _connects_directly(environ: Mapping[str, str]) -> bool:
    """Return whether the environment certainly has no proxy. On macOS, the system's settings may have one."""
    named = any(name.lower().endswith("_proxy") and name.lower() != "no_proxy" and environ[name] for name in environ)
    return not named and sys.platform != "darwin"
