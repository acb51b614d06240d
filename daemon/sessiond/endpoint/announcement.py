"""What `sessiond serve` writes for the process that started it."""

from __future__ import annotations

from uuid import UUID

import msgspec


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON line that `sessiond serve --announce` writes once it accepts requests."""

    url: str
    endpoint_id: UUID
    pid: int
