"""Text in binary data is masked where it is; all other bytes stay."""

from __future__ import annotations

import pytest

from sessiond.redact import Redactor
from sessiond.redact.binary import is_binary
from sessiond.redact.examples import expand

TOKEN = expand("ghp_<A36>", 9)
NOISE = b"\x01\x02\0\xfe" * 50


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("first", [b"", NOISE])
def test_each_text_is_masked_where_it_is(first: bytes, count: int, stars: Redactor) -> None:
    def file(token: str) -> bytes:
        return first + b"".join(f"the token {token} of file {number}".encode() + NOISE for number in range(count))

    masked = stars.mask_any(file(TOKEN))
    assert masked.data == file("*" * len(TOKEN))
    assert [masked.data[each.start : each.start + each.length] for each in masked.findings] == [
        b"*" * len(TOKEN)
    ] * count


@pytest.mark.parametrize("size", [1000, 1 << 14, 100_000])
@pytest.mark.parametrize(("share", "binary"), [(0.029, False), (0.032, True)])
def test_data_with_enough_control_characters_is_binary(size: int, share: float, *, binary: bool) -> None:
    """One in 33, wherever they are; so many zero bytes are enough of it, and one is needed."""
    few = round(size * share)
    for data in (b"\1" * (few - 1) + b"\0" + b"a" * (size - few), b"a" * (size - few) + b"\0" + b"\1" * (few - 1)):
        assert is_binary(data) is binary
    assert not is_binary(b"\1" * size)
