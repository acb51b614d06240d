"""Values that the user knows to be secret, in every form that they may appear in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from sessiond.redact.budget import Budget
from sessiond.redact.confirm import Span
from sessiond.redact.cover import fit
from sessiond.redact.scanner import Trigger, make_scanner

KNOWN_VALUE = -1
"""The rank of a span that is such a value, before those of all rules."""
SHORTEST = 6
"""A shorter value can't be distinguished from ordinary text, and is not searched."""


def forms(secret: bytes) -> set[bytes]:
    """List the forms of a secret: as it is, escaped in JSON once and twice, in a URL, and in base64."""
    secret = secret.strip()
    if len(secret) < SHORTEST:
        return set()
    found = {secret, quote(secret, safe="").encode(), quote_plus(secret).encode()}
    text = secret.decode("utf-8", "surrogateescape")
    for ascii_only in (True, False):
        escaped = text
        for _ in range(2):
            escaped = json.dumps(escaped, ensure_ascii=ascii_only)[1:-1]
            found.add(escaped.encode("utf-8", "surrogateescape"))
    for shift, skip in ((0, 0), (1, 2), (2, 3)):
        whole = (shift + len(secret)) * 8 // 6
        found.add(base64.b64encode(b"\0" * shift + secret + b"\0\0")[skip:whole])
    return {form for form in found if len(form) >= SHORTEST}


class Known:
    """The values that the user named, and what finds each of them in each form."""

    def __init__(self, secrets: Iterable[bytes], engine: str | None) -> None:
        triggers: list[Trigger] = []
        self._owners: list[bytes] = []
        for secret in dict.fromkeys(secrets):
            for form in sorted(forms(secret)):
                expression = "".join(f"\\x{byte:02x}" for byte in form)
                triggers.append(Trigger(expression, len(form), len(form)))
                self._owners.append(secret.strip())
        self._widths = [trigger.high for trigger in triggers]
        # Never cached: a compiled database holds its literals readable.
        self._scanner = make_scanner(triggers, None, engine) if triggers else None

    def __bool__(self) -> bool:
        """Return whether there is a value to search for."""
        return self._scanner is not None

    def find(self, data: bytes, low: int, high: int, budget: Budget) -> list[Span]:
        """Return where the values are in a part of the data. Raises: OverBudgetError where there are too many."""
        spans: list[Span] = []
        if self._scanner is not None:
            for index, hits in self._scanner.scan(data[low:high], budget).items():
                for mark in hits.marks:
                    place = mark - hits.low + low
                    spans.append(Span(*fit(data, place, place + self._widths[index]), KNOWN_VALUE, self._owners[index]))
        return spans
