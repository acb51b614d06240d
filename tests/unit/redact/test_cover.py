"""The text that replaces a secret, and the exact bounds of the replaced bytes."""

from __future__ import annotations

import base64
import re

import pytest

from sessiond.redact.cover import cover, fit
from sessiond.redact.known import forms
from sessiond.redact.rules import Exemption

ESCAPE = rb"\u00e9abc"


@pytest.mark.parametrize(
    ("data", "start", "end", "expected"),
    [
        (b"abc", 0, 3, (0, 3)),
        (ESCAPE, 1, 9, (6, 9)),
        (ESCAPE, 2, 9, (6, 9)),
        (ESCAPE, 3, 9, (6, 9)),
        (ESCAPE, 6, 9, (6, 9)),
        (rb"\nabc", 1, 5, (2, 5)),
        ("éabc".encode(), 1, 5, (2, 5)),
        ("abcé".encode(), 0, 4, (0, 5)),
        ("€abc".encode(), 1, 6, (3, 6)),
        ("abc€".encode(), 0, 4, (0, 6)),
        ("abc€".encode(), 0, 6, (0, 6)),
    ],
)
def test_no_escape_and_no_character_is_cut(data: bytes, start: int, end: int, expected: tuple[int, int]) -> None:
    """The rest of a cut escape would not be JSON, and that of a cut character not UTF-8."""
    assert fit(data, start, end) == expected


def test_the_hash_of_a_secret_is_the_same_in_every_version() -> None:
    """The holder of the key can compare old transcripts with new ones."""
    made = cover(b"x" * 100, 0, 100, b"k" * 32, b"a-secret")
    assert made[:33] == b"*6e7b959a28e3874a8650d5a279062173"
    assert len(made) == 100
    assert made[1:36] != made[65:100]  # a long one does not repeat itself


@pytest.mark.parametrize("before", [b"", b"x", b"xy", b"xyz"])
def test_a_known_value_is_known_at_each_place_of_base64(before: bytes) -> None:
    """Its letters depend on the place in a group of three bytes at which the value begins."""
    secret = b"a-very-secret-value"
    text = base64.b64encode(before + secret + b"after")
    assert any(form in text for form in forms(secret))


def test_one_expression_of_an_exemption_is_enough() -> None:
    """The expressions are alternatives, as in the rules of other scanners."""
    made = Exemption((re.compile(b"^one$"), re.compile(b"^two$")), (), (), "secret", False, frozenset())
    assert made.applies(b"two", b"two", b"two", "")
    assert not made.applies(b"three", b"three", b"three", "")
