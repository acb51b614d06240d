"""Values that the user knows to be secret, in every form that they may appear in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from sessiond.redact.scanner import Trigger

SHORTEST = 6
"""A shorter value is no secret that could be told from ordinary text, and is not looked for."""


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


def known_triggers(secrets: Iterable[bytes]) -> tuple[list[Trigger], list[bytes]]:
    """Make a trigger of each form of each secret, and say to which secret each belongs."""
    triggers: list[Trigger] = []
    owners: list[bytes] = []
    for secret in dict.fromkeys(secrets):
        for form in sorted(forms(secret)):
            expression = "".join(f"\\x{byte:02x}" for byte in form)
            triggers.append(Trigger(expression, len(form), len(form)))
            owners.append(secret.strip())
    return triggers, owners
