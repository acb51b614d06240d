"""Values that are recognised as names or calls of a program, so that no rule is tried on them."""

from __future__ import annotations

import json
import random

import pytest

from sessiond.redact import Redactor
from sessiond.redact.values import is_call, name_at

PARTS = [
    "next",
    "token",
    "Get",
    "ID",
    "self",
    "a",
    "xK9mQ2",
    "v2",
    "7",
    "_",
    ".",
    "-",
    ",",
    ";",
    "(",
    ")",
    "[",
    "+",
    "é",
]
SYNTAXES = [
    "password = {}",
    "password: {},",
    'token="{}"',
    "secret: ' {}'",
    "f(token={})",
    "api_key={};",
    "token: |\n  {}",
]


@pytest.mark.parametrize("seed", range(4))
def test_names_and_calls_are_skipped_without_a_difference(seed: int, stars: Redactor, plain: Redactor) -> None:
    """`re` tries the rules wherever their triggers begin, and skips none."""
    chance = random.Random(seed)
    found = 0
    for _ in range(12):
        records = []
        for _ in range(30):
            value = "".join(chance.choices(PARTS, k=chance.randint(2, 6)))
            text = f"see\n{chance.choice(SYNTAXES).format(value)}\nend {value}\n"
            for _ in range(chance.choice((1, 1, 2))):
                text = json.dumps({"c": text})
            records.append(text)
        data = "\n".join(records).encode()
        masked = stars.mask(data)
        assert "dense-secrets" not in {finding.rule for finding in masked.findings}
        assert masked == plain.mask(data)
        found += len(masked.findings)
    assert found > 20


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"next_token\\n", b"next_token"),
        (b'self.a\\"', b"self.a"),
        (b"token),\\n", b"token"),
        (b"Token2 = x", b"Token2"),
        (b"token,x9", None),
        (b'token,"', None),
        (b"token(", None),
        (b"token\\u00e9", None),
        (b"token", None),
    ],
)
def test_a_name_ends_where_each_syntax_ends_a_value(text: bytes, value: bytes | None) -> None:
    assert name_at(text, 0) == value


@pytest.mark.parametrize("text", [b"get_token(x)\\n", b'self.get(\\"a', b"tokens[index] "])
def test_a_call_is_recognised(text: bytes) -> None:
    assert is_call(text, 0)


@pytest.mark.parametrize("text", [b"get_token(x9)\\n", b"token\\n", b"2get(x) ", b"get(x"])
def test_what_may_be_a_value_is_no_call(text: bytes) -> None:
    assert not is_call(text, 0)


def test_a_value_in_quotes_is_no_call() -> None:
    assert not is_call(b'"abc(def" ', 1)
