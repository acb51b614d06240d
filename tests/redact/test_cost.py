"""No input costs much more than ordinary text: trials and judgements are counted, not seconds."""

from __future__ import annotations

import json

import pytest

from sessiond.redact import Redactor, confirm, load_rules
from sessiond.redact.examples import expand

SIZE = 1 << 18
RUNS = {
    "one letter": "A",
    "another letter": "a",
    "zero bytes in Base64 and a space": "A" * 99 + " ",
    "digits": "0123456789",
    "equals signs": "=",
    "quotes": '"',
    "backslashes": "\\",
    "newlines": "\n",
    "dashes": "-",
    "colons": ":",
    "slashes": "/",
    "hex": "0123456789abcdef",
    "AWS ids": "AKIA",
    "JSON web tokens": "eyJ",
    "GitHub tokens": "ghp_",
    "keys": "sk-",
    "BEGIN lines": "-----BEGIN RSA PRIVATE KEY-----\n",
    "END lines": "-----END RSA PRIVATE KEY-----\n",
    "colour codes": "\x1b[0m",
    "coloured letters": "\x1b[31ma",
    "wraps": "ghp_\nA\n",
    "URLs": "https://",
}
PER_MEGABYTE = 70_000
"""Trials and judgements in a megabyte at most. One for each byte would be a million."""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a rule is tried or a match is judged."""
    count = [0]
    for name in ("_try", "_judge"):
        real = getattr(confirm, name)

        def wrapper(*args: object, real: object = real) -> object:
            count[0] += 1
            return real(*args)  # type: ignore[operator]

        monkeypatch.setattr(confirm, name, wrapper)
    return count


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_anything_is_not_tried_byte_by_byte(name: str, counted: list[int], stars: Redactor) -> None:
    """A run of a letter once cost a trial for each of its bytes."""
    text = RUNS[name] * (SIZE // len(RUNS[name]))
    stars.mask(json.dumps({"content": text}).encode())
    assert counted[0] <= PER_MEGABYTE * SIZE >> 20


@pytest.mark.parametrize("rule", load_rules().rules, ids=lambda rule: rule.id)
def test_a_near_miss_is_judged_a_few_times_at_most(rule: object, counted: list[int], stars: Redactor) -> None:
    """By each rule whose names it has, and not once for each of its bytes."""
    for template in rule.miss:  # type: ignore[attr-defined]
        counted[0] = 0
        miss = expand(template, 1) + " and so on\n"
        copies = SIZE // len(miss)
        stars.mask(json.dumps({"content": miss * copies}).encode())
        assert counted[0] <= 8 * copies, template
