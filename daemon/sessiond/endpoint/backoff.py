"""How long to wait before the next push after one that failed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from sessiond.errors import EndpointError, Unreachable

if TYPE_CHECKING:
    import tenacity

CAP = 300.0
"""Seconds: the longest wait while the endpoint can't be reached, unless it asks for more."""
STEPS = (5.0, 30.0, 120.0)
"""Seconds until the first, second and each later retry after an answer that is wrong: a refused token, a login page."""
PAUSE = 900.0
"""Seconds between two tries once wrong answers have come for that long; also how long they have to persist for it."""
JITTER = 0.2
"""The share by which a wait after a wrong answer is varied in both directions."""


def next_wait(error: EndpointError, failures: int, rejections: int = 1, lasted: float = 0.0) -> float:
    """Return the seconds until the next push. It is always finite: a push is never given up.

    `failures`: failed pushes in a row, this one included. `rejections`: how many of the last ones in a row were
    answered, but wrongly. `lasted`: seconds since the first of those.
    """
    if isinstance(error, Unreachable):
        return _unreachable_wait(error, failures)
    # The count guards against a wall clock that is set forward by years: one bad answer never costs a long pause.
    persistent = rejections > len(STEPS) and lasted >= PAUSE
    wait = PAUSE if persistent else STEPS[min(rejections, len(STEPS)) - 1]
    return wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter, not a secret


def _unreachable_wait(error: Unreachable, failures: int) -> float:
    """Return a wait with full jitter, which spreads a thousand clients evenly when their endpoint comes back.

    What the endpoint asks for (Retry-After) is the minimum, plus up to a tenth.
    """
    wait = random.uniform(0, min(CAP, 2.0 ** min(failures, 12)))  # noqa: S311 - jitter, not a secret
    asked = error.retry_after
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
