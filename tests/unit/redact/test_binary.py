"""Text in binary data is masked where it is; all other bytes stay."""

from __future__ import annotations

import pytest

from sessiond.redact import Redactor
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
