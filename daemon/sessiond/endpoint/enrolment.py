"""The messages with which a device gets a token of its own (docs/protocol.md)."""

from __future__ import annotations

from uuid import UUID

import msgspec

ENROL = "enrol"  # the feature: the endpoint takes invitations


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a token. The code of the invitation replaces the token that other requests need."""

    code: str
    device_id: UUID
    machine_id: str
    """Used for the token's name, so that a person recognizes it."""


class EnrolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The new token, which is bound to the device. It can't be shown again."""

    token: str
    name: str
    user: str
