"""The session that a restored one continues (docs/protocol.md)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A session of another machine, from which one was restored. Its messages do not count in the restored one."""

    machine_id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    id: UUID
