"""The result of `verify`."""

from __future__ import annotations

import msgspec


class VerifiedTool(msgspec.Struct, frozen=True, kw_only=True):
    """The result for one tool."""

    tool: str
    sessions: int
    safe: int
    """Sessions that the endpoint has completely: it was asked now."""
    files: int
    """Files of the tool that were compared with what was captured."""
    not_captured: int
    """Files that are new, have changed, or can't be read."""
    compared: int
    """Streams whose bytes were read from the tool's file and compared with the endpoint's (`--deep`)."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not safe."""

    tool: str
    session: str | None
    path: str | None
    what: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """The result, as `--json` prints it. `complete`: whether everything is safe."""

    complete: bool
    records: bool
    """Whether the records were compared too; a token that only pushes can't read them."""
    tools: list[VerifiedTool]
    problems: list[Problem]
    repaired: int
    """Problems that were found first and are solved now (`--repair`)."""
