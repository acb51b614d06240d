"""The messages about erased sessions (docs/protocol.md)."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec

FORGET = "forget"  # the feature: the endpoint erases sessions


class ForgottenSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that was erased and is not stored again."""

    machine_id: str | None
    """The machine whose session it was; None: the session of this id on all machines."""
    id: UUID
    forgotten: Literal[True] = True


class ExpiredSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that the endpoint had and let go, because it was older than the endpoint's owner keeps sessions."""

    machine_id: str
    id: UUID
    revision: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
    """The last revision of its record that the endpoint had, or that was pushed."""
    expired_at: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
    """When it was let go, in unix milliseconds."""


class ForgottenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the sessions that were erased, and of those that were let go, each in the order of the changes."""

    forgotten: list[ForgottenSession]
    expired: list[ExpiredSession] = []
    next: str
    more: bool


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a request that erases a session: the data erased by this request, which may be none."""

    session: UUID
    machines: list[str]
    """The machines whose data was erased."""
    streams: int
    bytes: int
    """Bytes of transcripts and side files, of all generations."""
    objects_left: int = 0
    """Objects outside of the database that still have erased bytes, because the object store did not answer. The
    endpoint deletes them later, without another request."""
