"""How long to wait for an endpoint that did not take a push."""

from __future__ import annotations

import random

from sessiond.errors import EndpointError, Unreachable

CAP = 300.0
"""Seconds that the longest wait between two pushes takes, unless the endpoint asks for more."""


def next_wait(error: EndpointError, failures: int) -> float:
    """Choose the seconds until the next push after the n-th failure in a row: full jitter, never given up.

    Full jitter spreads a thousand clients evenly when their endpoint comes back. What the endpoint asks
    for (Retry-After) is the least, with up to a tenth on top.
    """
    wait = random.uniform(0, min(CAP, 2.0 ** min(failures, 12)))  # noqa: S311 - jitter, not a secret
    asked = error.retry_after if isinstance(error, Unreachable) else None
    return wait if asked is None else max(wait, asked * random.uniform(1.0, 1.1))  # noqa: S311
