"""Redaction: secrets are covered on this machine, before anything is queued.

    redactor = Redactor(Policy(mode="mask"))
    masked = redactor.mask(b'{"content":"export GH_TOKEN=..."}\\n')

Bytes in, as many bytes out: offsets, resume and JSON validity hold. `Redactor.version` changes with
whatever could make it find something else.
"""

from __future__ import annotations

TYPE_CHECKING = False  # like `typing.TYPE_CHECKING`: `status` imports the prefilter from here
if TYPE_CHECKING:
    from typing import Any

    from sessiond.redact.pieces import OVERLAP
    from sessiond.redact.policy import Finding, Masked, Mode, Policy
    from sessiond.redact.redactor import KNOWN, Redactor, digest
    from sessiond.redact.rules import Rule, RuleSet, load_rules

__all__ = [
    "KNOWN",
    "OVERLAP",
    "Finding",
    "Masked",
    "Mode",
    "Policy",
    "Redactor",
    "Rule",
    "RuleSet",
    "digest",
    "load_rules",
]

_LATE = {
    "OVERLAP": "sessiond.redact.pieces",
    **dict.fromkeys(("Finding", "Masked", "Mode", "Policy"), "sessiond.redact.policy"),
    **dict.fromkeys(("KNOWN", "Redactor", "digest"), "sessiond.redact.redactor"),
    **dict.fromkeys(("Rule", "RuleSet", "load_rules"), "sessiond.redact.rules"),
}


def __getattr__(name: str) -> Any:
    """Import the engine when it is asked for: a daemon that has nothing to read saves its memory."""
    if name not in _LATE:
        raise AttributeError(name)
    import importlib

    return getattr(importlib.import_module(_LATE[name]), name)
