"""How long to wait for an endpoint that did not take a push."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from sessiond.errors import EndpointError, Unreachable

if TYPE_CHECKING:
    import tenacity

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


def make_retrying(tries: int, sleep: Callable[[float], None]) -> tenacity.Retrying:
    """Make what tries a request so many times in all, unless the endpoint says itself how long to wait."""
    import tenacity  # late: a daemon that starts with nothing to push does without

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, Unreachable) and error.retry_after is None),
        stop=tenacity.stop_after_attempt(tries),
        wait=tenacity.wait_random_exponential(multiplier=0.3, max=3.0),
        sleep=sleep,
        reraise=True,
    )
