"""Long repeats are searched once, with the same findings."""

from __future__ import annotations

import json

import pytest

from sessiond.redact import Finding, Masked, Redactor
from sessiond.redact.examples import expand
from sessiond.redact.repeats import KEPT, LONGEST_PERIOD, fold

TOKEN = expand("ghp_<A36>", "repeats").encode()
PERIODS = [b"A", b"password=", b"-----BEGIN RSA PRIVATE KEY-----\\n", b"\\u001b[31ma", b"ab" * 300 + b"c"]


@pytest.mark.parametrize("period", PERIODS, ids=len)
@pytest.mark.parametrize("size", [3 * KEPT + LONGEST_PERIOD * 2, 8 * KEPT])
def test_a_folded_text_is_short_and_unfolds_to_itself(period: bytes, size: int) -> None:
    """The left-out part is a whole number of periods, so the rest joins without a seam."""
    data = b"before " + period * (size // len(period)) + b" after " + period[:1] * size + b" end"
    folded = fold(data)
    assert folded is not None
    assert len(folded.data) < 4 * KEPT + 4 * LONGEST_PERIOD
    position = shift = 0
    rebuilt = b""
    for cut in folded.cuts:
        rebuilt += folded.data[position : cut.position]
        rebuilt += data[cut.position + shift :][: cut.length]
        position, shift = cut.position, shift + cut.length
    assert rebuilt + folded.data[position:] == data
    assert folded.unfold(data, Masked(folded.data)) == Masked(data)


def test_ordinary_text_is_not_folded() -> None:
    """It has no period, even if it has equal parts."""
    lines = [json.dumps({"n": number, "text": "the same text " * 50}).encode() for number in range(2000)]
    assert fold(b"\n".join(lines)) is None
    assert fold(b"A" * 2 * KEPT) is None


@pytest.mark.parametrize("period", [b"A", b"passwords", b"x -- \\u001b[0m"], ids=len)
def test_secrets_around_a_repeat_are_masked_where_they_are(period: bytes, stars: Redactor) -> None:
    """They are before a repeat, between two of them, and behind."""
    run = period * (4 * KEPT // len(period))
    data = b'{"a":"' + TOKEN + b" " + run + b" " + TOKEN + b" " + run + b" " + TOKEN + b'"}\n'
    masked = stars.mask(data)
    assert masked.data == data.replace(TOKEN, b"*" * len(TOKEN))
    assert [data[found.start : found.start + found.length] for found in masked.findings] == [TOKEN] * 3


def test_secrets_that_repeat_themselves_are_all_masked(stars: Redactor) -> None:
    """If the period itself contains a secret, no repetition is skipped."""
    count = 4 * KEPT // (len(TOKEN) + 1)
    data = b'{"a":"' + (TOKEN + b" ") * count + b'"}\n'
    masked = stars.mask(data)
    assert TOKEN not in masked.data
    assert sum(finding.length for finding in masked.findings) >= count * len(TOKEN)


def test_a_secret_at_the_seam_unfolds_nothing() -> None:
    """A finding in the part that represents the middle counts for the others too."""
    data = b"A" * 8 * KEPT
    folded = fold(data)
    assert folded is not None
    seam = folded.cuts[0].position
    assert folded.unfold(data, Masked(folded.data, (Finding(seam - 5, 10, "rule"),))) is None
    assert folded.unfold(data, Masked(folded.data, (Finding(10, 10, "rule"),))) is not None
