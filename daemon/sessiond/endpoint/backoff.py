"""The wait before the next push after one that failed."""

from __future__ import annotations

import random

from sessiond.errors import EndpointError, Unreachable

CAP = 300.0
"""Seconds: the longest wait while the endpoint can't be reached, unless it asks for more."""
STEPS = (5.0, 30.0, 120.0)
"""Seconds until the first, second and each later retry after a wrong answer, such as a refused token or login page."""
PAUSE = 900.0
"""Seconds between two tries after wrong answers have persisted for this long."""
JITTER = 0.2
"""The fraction by which a wait after a wrong answer varies in both directions."""


def next_wait(error: EndpointError, failures: int, rejections: int = 1, lasted: float = 0.0) -> float:
    """Return the seconds until the next push. They are always finite: a push is never abandoned.

    `failures`: failed pushes in a row, including this one. `rejections`: how many of the last ones in a row got a
    wrong answer. `lasted`: seconds since the first of these.
    """
    if isinstance(error, Unreachable):
        return _unreachable_wait(error, failures)
    # The count protects against a wall clock that is set forward by years: one wrong answer must not cost a long pause.
    persistent = rejections > len(STEPS) and lasted >= PAUSE
    wait = PAUSE if persistent else STEPS[min(rejections, len(STEPS)) - 1]
    return wait * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter, not a secret


def _unreachable_wait(error: Unreachable, failures: int) -> float:
    """Return a wait with full jitter, so that a thousand clients do not return at the same moment.

    Retry-After is the minimum; up to a tenth is added to it.
    """
    wait = random.uniform(0, min(CAP, 2.0 ** min(failures, 12)))  # noqa: S311 - jitter, not a secret
    asked = error.retry_after
    return wait if asked is None else max(wait, asked * random.uniform(1.0, 1.1))  # noqa: S311
