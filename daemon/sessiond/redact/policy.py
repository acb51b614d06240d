"""What to cover and how: the policy, and what comes back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from sessiond.redact.rules import RuleSet

DENSE = "dense-secrets"
"""The rule id of a part of a text that holds too many possible secrets, and is masked as a whole."""
Mode = Literal["mask", "hash", "off"]


def read_ours() -> bytes:
    """Read our rules as they stand in their file; importlib.resources takes as long as half of the sources for that."""
    with open(os.path.join(os.path.dirname(__file__), "rules.toml"), "rb") as file:
        return file.read()


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What to cover, and how.

    `secrets` are known literally and covered wherever they appear, escaped, URL-encoded or in base64 too;
    they live in memory only. `allow_hashes` holds what `digest()` makes of a value that is no secret.
    """

    mode: Mode = "mask"
    key: bytes = b""
    """Of the keyed hash; needed by the mode "hash", and to tell one set of known secrets from another."""
    extra: tuple[RuleSet, ...] = ()
    secrets: tuple[bytes, ...] = ()
    allow_rules: frozenset[str] = frozenset()
    allow_hashes: frozenset[str] = frozenset()
    allow_paths: tuple[str, ...] = ()
    """Globs; a file whose path fits one is not scanned."""

    def __repr__(self) -> str:
        return f"Policy(mode={self.mode!r}, {len(self.extra)} extra, {len(self.secrets)} secrets)"


class Finding(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where a secret was covered, and by which rule; never the value."""

    start: int
    length: int
    rule: str


class Masked(msgspec.Struct, frozen=True, gc=False):
    """The covered bytes, as many as went in, and what was found; the very object that went in if nothing was."""

    data: bytes
    findings: tuple[Finding, ...] = ()
