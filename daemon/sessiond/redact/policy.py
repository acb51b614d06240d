"""What to cover and how: the policy, and what comes back."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from sessiond.redact.rules import RuleSet

DENSE = "dense-secrets"
"""The rule id of a part of a text that holds too many possible secrets, and is masked as a whole."""
Mode = Literal["mask", "hash", "off"]


@cache
def read_ours() -> bytes:
    """Read the built-in rules from their file. importlib.resources would take half as long as importing the sources.

    They stay in memory: an upgrade removes the file, and the running daemon may need the rules only after that.
    """
    with open(os.path.join(os.path.dirname(__file__), "rules.toml"), "rb") as file:
        return file.read()


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What to cover, and how.

    `secrets` are known literally and covered wherever they appear, escaped, URL-encoded or in base64 too;
    they live in memory only. `allow_hashes` holds what `digest()` makes of a value that is no secret.
    """

    mode: Mode = "mask"
    key: bytes = b""
    """The key of the keyed hash, for the mode "hash" and to distinguish sets of known secrets."""
    extra: tuple[RuleSet, ...] = ()
    secrets: tuple[bytes, ...] = ()
    allow_rules: frozenset[str] = frozenset()
    allow_hashes: frozenset[str] = frozenset()
    allow_paths: tuple[str, ...] = ()
    """Globs; a file whose path fits one is not scanned."""

    def __repr__(self) -> str:
        return f"Policy(mode={self.mode!r}, {len(self.extra)} extra, {len(self.secrets)} secrets)"


class Finding(msgspec.Struct, frozen=True, order=True, gc=False):
    """The place of a covered secret and the rule; never the value."""

    start: int
    length: int
    rule: str


class Masked(msgspec.Struct, frozen=True, gc=False):
    """The masked bytes, of the same length as the input, and the findings. Without findings, the same object."""

    data: bytes
    findings: tuple[Finding, ...] = ()
