"""What a client reports when the endpoint answers that a quota is used up."""

from __future__ import annotations

from sessiond.errors import Unreachable

HINT = "raise it on the endpoint (`sessiond serve user set`, or --max-bytes), or erase sessions: sessiond forget"


def used_up() -> Unreachable:
    """Return the error. It may be the quota of the user, of the user's tenant, or of the whole endpoint."""
    return Unreachable("a quota of the endpoint is used up", hint=HINT)
