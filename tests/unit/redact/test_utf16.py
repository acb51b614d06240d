"""Secrets in UTF-16 are masked as in UTF-8: in both orders of bytes, beside any letters, in pieces, in binary files."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

import pytest

from sessiond.redact import OVERLAP, Redactor
from sessiond.redact.examples import expand
from sessiond.redact.pieces import mask_piece
from sessiond.redact.utf16 import byte_orders

TOKEN = expand("ghp_<A36>", 7)
ORDERS = pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
TEXTS = pytest.mark.parametrize(
    ("before", "secret", "after"),
    [
        ("", TOKEN, ""),
        ('{"text":"export GH_TOKEN=', TOKEN, ' and more"}\n'),
        ("令牌", TOKEN, "。请保密"),
        ("ключ: ", TOKEN, "ткань"),
        ("PS> $env:DB_PASSWORD = '", "Tr0ubß4dor織x9", "'\r\n"),
    ],
)


@TEXTS
@ORDERS
def test_a_secret_is_masked_and_nothing_else(
    stars: Redactor, encoding: str, before: str, secret: str, after: str
) -> None:
    text = (before + secret + after).encode(encoding)
    masked = stars.mask(text)
    assert masked.data.decode(encoding) == before + "*" * len(secret) + after
    (finding,) = masked.findings
    assert (finding.start // 2, finding.length) == (len(before), 2 * len(secret))
    assert stars.mask(masked.data).data == masked.data


@ORDERS
def test_text_without_a_secret_stays(stars: Redactor, encoding: str) -> None:
    text = "Weave ткань with 織る, and the pattern of ਕੱਪੜਾ at 10:00.\r\n".encode(encoding) * 40
    assert stars.mask(text).data == text
    assert stars.mask(b"\0" + text[:-1]).data == b"\0" + text[:-1]


@ORDERS
def test_a_string_in_a_binary_file_is_masked(stars: Redactor, encoding: str) -> None:
    before, after = b"\x01\x02\x7f\xfe" * 99 + b"\x05", b"\xff\xf7\0\0" + b"\x90\x03" * 99
    data = before + f"token {TOKEN} end".encode(encoding) + after
    masked = stars.mask_any(data)
    assert masked.data == before + f"token {'*' * len(TOKEN)} end".encode(encoding) + after


@ORDERS
def test_each_string_of_a_binary_file_is_reported_where_it_is(stars: Redactor, encoding: str) -> None:
    text, other = f"token {TOKEN} end".encode(encoding), b"\xfe\x01\xf7" * 99 + b"\xfe"
    data = other + text + other + text
    found = [(finding.start, finding.length) for finding in stars.mask_any(data).findings]
    first = len(other) + len("token ") * 2
    assert found == [(first, 2 * len(TOKEN)), (first + len(other) + len(text), 2 * len(TOKEN))]


@ORDERS
def test_a_secret_is_masked_wherever_a_piece_is_cut(stars: Redactor, encoding: str) -> None:
    filler = "The loom stands idle. 織る " * (OVERLAP // 40)
    text = f"{filler}{TOKEN} {filler}".encode(encoding)
    whole = stars.mask_any(text).data
    assert TOKEN.encode(encoding) not in whole
    middle = len(filler) * 2
    for cut in (middle - 1, middle + 1, middle + 40, middle + 41):
        first = mask_piece(stars, b"", text[:cut], text[cut : cut + OVERLAP])
        second = mask_piece(stars, text[max(0, cut - OVERLAP) : cut], text[cut:], b"")
        assert first.data + second.data == whole


def test_a_secret_in_ascii_behind_text_in_utf_16_is_masked(stars: Redactor) -> None:
    """A tool goes on in UTF-8 in a file that was saved in UTF-16."""
    wide, narrow = f"one {TOKEN} ".encode("utf-16"), f'{{"text":"two {TOKEN} "}}\n'.encode()
    masked = stars.mask(wide + narrow).data
    assert masked == wide.replace(TOKEN.encode("utf-16-le"), "*".encode("utf-16-le") * len(TOKEN)) + narrow.replace(
        TOKEN.encode(), b"*" * len(TOKEN)
    )


RUN = re.compile(rb"(?:[\t\n\r\x1b-\x7e]\0){8,}")


def test_text_is_found_where_the_expression_finds_it() -> None:
    """Eight characters of ASCII with a zero behind each, wherever they begin and whatever is around them."""
    chance = random.Random(4)
    for _ in range(3000):
        pairs = chance.randrange(20)
        text = b"".join(
            bytes([chance.choice(b"ab]^-\\\t\x1b\x1a\x7e\x7f\0"), chance.random() < 0.03]) for _ in range(pairs)
        )
        data = text[chance.randrange(2) :]
        assert bool(byte_orders(data)) == (RUN.search(data) is not None), data


def test_an_image_is_searched_about_as_fast_as_it_is_copied() -> None:
    """An expression that is tried at each of its bytes took forty times as long, twice as long as all else together."""
    image, table = random.Random(5).randbytes(1 << 18), bytes(range(256))
    assert byte_orders(image) == ()
    by_turns = [(cpu(lambda: image.translate(table)), cpu(lambda: byte_orders(image))) for _ in range(9)]
    assert min(searched for _, searched in by_turns) < 12 * min(copied for copied, _ in by_turns)


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this thread that the work takes."""
    began = time.thread_time()
    work()
    return time.thread_time() - began
