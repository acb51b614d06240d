"""Redaction: secrets are covered on this machine, before anything is queued.

    redactor = Redactor(Policy(mode="mask"))
    masked = redactor.mask(b'{"content":"export GH_TOKEN=..."}\\n')

Bytes in, as many bytes out: offsets, resume and JSON validity hold. `Redactor.version` changes with
whatever could make it find something else.
"""

from __future__ import annotations

from sessiond.redact.policy import Finding, Masked, Mode, Policy
from sessiond.redact.redactor import KNOWN, OVERLAP, Redactor, digest
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
