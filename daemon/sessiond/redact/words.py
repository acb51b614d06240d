"""Words for a password in languages other than English, as expressions for a rule.

A rule in rules.toml writes `{{latin_words}}` where a word in ASCII letters may be, and `{{other_words}}` for the
others. Expressions are applied to bytes, so a word with other letters is written in each way that it may have: lower,
upper and mixed case, as UTF-8 and with escapes of JSON. Hyperscan finds so many literals as fast as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sessiond.redact.prefilter import PASSWORD_WORDS

_DEPTHS = (1, 2, 4)
"""The backslashes of an escape in JSON, in JSON within JSON, and so on."""


def with_words(expression: str, *, raw: bool) -> str:
    """Return an expression with the words in it, for the raw bytes of a record or for blanked text (text.py)."""
    if "_words}}" not in expression:
        return expression
    latin = "|".join(word for word in PASSWORD_WORDS if word.isascii())
    others = "|".join(form for word in PASSWORD_WORDS if not word.isascii() for form in _forms(word, raw))
    boundary = "" if raw else "(?<![A-Za-z0-9])"
    expression = expression.replace("{{latin_words}}", f"{boundary}(?i:{latin})")
    return expression.replace("{{other_words}}", f"(?i:{others})")


def _forms(word: str, raw: bool) -> Iterator[str]:
    """Iterate over the ways to write a word."""
    for case in dict.fromkeys((word, word.capitalize(), word.upper())):
        yield "".join("[ _-]" if letter == " " else _bytes(letter.encode()) for letter in case)
        for depth in _DEPTHS:
            # `blank()` leaves the last backslash of an escape, behind spaces for the others.
            before = "\\" * depth if raw else " " * (depth - 1) + "\\"
            letters = [_escape(letter, before) for letter in case]
            letters[0] = _escape(case[0], "\\")  # both begin at the same byte
            yield "".join(letters)


def _escape(letter: str, before: str) -> str:
    if letter.isascii():
        return "[ _-]" if letter == " " else letter
    return re.escape(before).replace("\\ ", "[ ]") + f"u{ord(letter):04x}"


def _bytes(letter: bytes) -> str:
    return "".join(chr(byte) if byte < 0x80 else f"\\x{byte:02x}" for byte in letter)
