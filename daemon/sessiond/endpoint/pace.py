"""The interval between two pushes that an endpoint asks its devices for (docs/protocol.md)."""

from __future__ import annotations

from typing import Annotated

import msgspec

LONGEST = 300.0
"""Seconds that a client obeys. Rule 12: a wrong answer must not stop the pushing."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often a device may push."""

    push_interval_ms: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
    """Milliseconds from the beginning of a push to that of the next one."""

    @property
    def seconds(self) -> float:
        """The interval as a client obeys it."""
        return min(self.push_interval_ms / 1000, LONGEST)
