"""Thousands of examples of secrets: `expand` makes a random generator for each, which takes longer than to mask it."""

from __future__ import annotations

import functools
import random
import re

from sessiond.redact.examples import KINDS

_LENGTH = 1 << 16
"""Letters of each kind that the examples are cut from."""
_STEP = 7919  # a prime: equal letters come back after `_LENGTH` examples
_PLACE = re.compile(r"<([A-Za-z])(\d+)>")


def expand_nth(template: str, number: int) -> str:
    """Fill a template in as `expand` does, and with other letters for each of the first 65,000 numbers."""
    parts = []
    for at, (text, kind, count) in enumerate(_parts(template)):
        parts.append(text)
        if count:
            letters, plain = _letters(kind)
            start = (number * _STEP + at * 97) % (_LENGTH - count)
            # Both ends are letters or digits, as `expand` makes them.
            parts += (plain[start], letters[start + 1 : start + count - 1], plain[start + count] if count > 1 else "")
    return "".join(parts)


@functools.cache
def _parts(template: str) -> list[tuple[str, str, int]]:
    """Divide a template into texts, each with the kind and the count of the letters behind it."""
    parts, end = [], 0
    for place in _PLACE.finditer(template):
        parts.append((template[end : place.start()], place[1], int(place[2])))
        end = place.end()
    return [*parts, (template[end:], "", 0)]


@functools.cache
def _letters(kind: str) -> tuple[str, str]:
    """Return a long random text of the letters of a kind, and one without signs."""
    chance = random.Random(kind)
    alphabet = KINDS[kind]
    plain = [letter for letter in alphabet if letter.isalnum()]
    return "".join(chance.choices(alphabet, k=_LENGTH)), "".join(chance.choices(plain, k=_LENGTH))
