"""The tokens that pushed last, so that the next push of each needs no lookup before its transaction."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request

from sessiond.endpoint.server.tokens import Access, hash_secret
from sessiond.endpoint.wire import DEVICE_HEADER

CAPACITY = 10_000
"""Tokens. Each takes half a kilobyte."""
SECONDS = 60
"""After that, a token is looked up again. One that was revoked is then refused before its push is received."""
MAX_BODY = 64 << 10
"""Bytes of a push. For a longer one the token is looked up before the body is received."""


class RecentPushers:
    """Accesses of the tokens that pushed last. Use it from one event loop only.

    They are for pushes alone. The transaction of a push looks the token up again (`decide._bind`), so a token that was
    revoked or released stores nothing from then on. Nothing else of a token ever changes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[Access, float]] = OrderedDict()

    def find(self, request: Request, secret: str) -> Access | None:
        """Return the access of a push with this secret; None: it has to be looked up."""
        found, since = self._known.get(hash_secret(secret), (None, 0.0))
        if found is None or found.is_expired or self._clock() - since > SECONDS:
            return None
        length = request.headers.get("content-length", "")
        is_short = length.isascii() and length.isdigit() and len(length) < 8 and int(length) <= MAX_BODY
        return found if is_short and request.headers.get(DEVICE_HEADER) == str(found.device) else None

    def keep(self, access: Access) -> None:
        """Keep the access of a token that was looked up, if it is bound to a device."""
        if access.device is None:
            return
        self._known[access.digest] = access, self._clock()
        self._known.move_to_end(access.digest)
        if len(self._known) > CAPACITY:
            self._known.popitem(last=False)
