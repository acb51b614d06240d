"""Examples of secrets, made up as they are needed: no rule file holds a string that looks like a key.

An example is a template: `ghp_<A36>` stands for a GitHub token. In angle brackets a kind and a count.
"""

from __future__ import annotations

import random
import re

_UPPER, _LOWER, _DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789"
KINDS = {
    "A": _UPPER + _LOWER + _DIGITS,
    "a": _LOWER + _DIGITS,
    "l": _LOWER,
    "v": _LOWER + "234567",
    "L": _UPPER + _LOWER,
    "U": _UPPER + _DIGITS,
    "S": _UPPER + "234567",
    "D": _DIGITS,
    "H": _DIGITS + "abcdef",
    "X": _DIGITS + "ABCDEF",
    "W": _UPPER + _LOWER + _DIGITS + "_-",
    "B": _UPPER + _LOWER + _DIGITS + "+/",
    "Q": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
    "P": _UPPER + _LOWER + _DIGITS + "!#^*+-_~",
}
_PLAIN = {alphabet: [letter for letter in alphabet if letter.isalnum()] for alphabet in KINDS.values()}
_PLACE = re.compile(r"<([A-Za-z])(\d+)>")


def expand(template: str, seed: object) -> str:
    """Fill a template in; the same seed gives the same text."""
    chance = random.Random(f"{seed}/{template}")  # noqa: S311 - a pretend secret has none to keep
    return _PLACE.sub(lambda match: _fill(KINDS[match[1]], int(match[2]), chance), template)


def _fill(alphabet: str, count: int, chance: random.Random) -> str:
    letters = chance.choices(alphabet, k=count)
    # Both ends are letters or digits: a key that ends in "-" would be cut by any \b, real ones or not.
    plain = _PLAIN[alphabet]
    letters[0], letters[-1] = chance.choice(plain), chance.choice(plain)
    return "".join(letters)
