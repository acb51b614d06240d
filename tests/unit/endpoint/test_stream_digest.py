"""The digest of a stream."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.endpoint.stream_digest import BLOCK, EMPTY, StreamDigest

VECTORS = {
    b"": "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925",
    b"hello\n": "8b11d43cf2974bc66f32db26625140f06eec81c83b65b0a316c74d123ad2d5dc",
    b"x" * 1024: "0df71ea9b9ba7738ce9b7013c081c0fe75cc9e1b842ac9e72aaebd8c5d5e89da",
    bytes(range(256)) * 12: "cbe993c37c8bba9a611b98010a2617322adb195f0ae12b4decd32e12dc24c13a",
}
"""Those of docs/protocol.md."""


def digest_of(data: bytes) -> str:
    """Compute the digest as docs/protocol.md defines it."""
    chain = bytes(32)
    whole = len(data) // 1024
    for number in range(whole):
        chain = sha256(chain + data[number * 1024 : (number + 1) * 1024]).digest()
    return sha256(chain + data[whole * 1024 :]).hexdigest()


@pytest.mark.parametrize("data", VECTORS)
def test_it_is_that_of_the_protocol(data: bytes) -> None:
    """Another implementation computes the same digests."""
    digest = StreamDigest()
    digest.update(data)
    assert digest.hexdigest() == VECTORS[data] == digest_of(data)
    assert StreamDigest().hexdigest() == EMPTY


@given(
    data=st.binary(max_size=64).map(lambda part: part * 80),
    cuts=st.lists(st.one_of(st.integers(0, 5120), st.integers(0, 5).map(lambda count: count * BLOCK)), max_size=6),
)
def test_it_depends_on_the_bytes_alone(data: bytes, cuts: list[int]) -> None:
    """However the bytes are divided, and wherever it is continued from a state, the digest is the same."""
    digest = StreamDigest()
    for start, end in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        before = digest.copy()
        digest = StreamDigest(before.length, before.chain, before.rest)
        digest.update(data[start:end])
        assert before.hexdigest() == digest_of(data[:start]), "a copy does not change"
        assert (digest.length, digest.hexdigest()) == (end, digest_of(data[:end]))
        assert len(digest.rest) < BLOCK
