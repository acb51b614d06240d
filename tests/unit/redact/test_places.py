"""How many places of a text are masked is counted from the text alone."""

from __future__ import annotations

import json

import pytest

from sessiond.redact import Mode, Policy, Redactor
from sessiond.redact.examples import expand
from sessiond.redact.places import count_masked

KEY = "-----BEGIN PRIVATE KEY-----\n" + "\n".join(expand("<A64>", n) for n in range(20)) + "\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize("mode", ["mask", "hash"])
@pytest.mark.parametrize("cut", [1, 7, 1 << 20])
def test_each_secret_that_was_masked_is_one_place(mode: Mode, cut: int) -> None:
    """A key of many lines too, and wherever the bytes are cut."""
    tokens = [expand("ghp_<A36>", number) for number in range(3)]
    lines = [
        json.dumps({"text": f"use {tokens[0]} or {tokens[1]}, not:\n{KEY}"}),
        json.dumps({"text": f"see https://hooks.slack.com/services/T0123ABCD/B0123ABCD/{expand('<a24>', 5)}"}),
        json.dumps({"env": f"GITHUB_TOKEN={tokens[2]}\n"}),
    ]
    data = "".join(f"{line}\n" for line in lines).encode()
    masked = Redactor(Policy(mode=mode, key=b"k" * 32)).mask(data)
    assert len(masked.data) == len(data) and tokens[0].encode() not in masked.data
    assert len(masked.findings) >= 5
    assert count_masked(masked.data[at : at + cut] for at in range(0, len(data), cut)) == 5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a **bold** word, ***both*** and docs/**/*.md, 2**8, *args, **kwargs",
        "/******************\\n * a comment\\n ******************/",
        "int *deadbeefs;",
        "*",
    ],
)
def test_stars_that_people_write_are_no_places(text: str) -> None:
    assert count_masked([text.encode()]) == 0


def test_a_long_text_of_stars_and_backslashes_is_read_in_linear_time() -> None:
    """It is the work of an adversary: each could be divided in many ways."""
    for unit in (b"*" * 3, b"\\" * 50, b"****\\", b'*a"', b"****\\\\\\n"):
        count_masked([unit * (300_000 // len(unit))])
