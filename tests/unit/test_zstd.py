"""Frames of short data are made by a compressor that each thread keeps."""

import random
import threading

import pytest

from sessiond import zstd


def texts() -> list[bytes]:
    """Return short and long data; much of it repeats."""
    chance = random.Random(1)
    words = [chance.randbytes(3).hex() for _ in range(200)]
    sizes = [0, 1, 100, zstd.SMALL - 1, zstd.SMALL, zstd.SMALL + 1, 5 * zstd.SMALL, 50, zstd.SMALL]
    return [" ".join(chance.choices(words, k=1 + size // 7)).encode()[:size] for size in sizes]


@pytest.mark.parametrize("level", [1, 3])
def test_a_frame_does_not_depend_on_what_was_compressed_before(level: int) -> None:
    """A frame is read without the others. Equal bytes give equal frames, also in a new thread."""
    made = [zstd.compress(text, level) for text in texts()]
    assert [zstd.decompress(frame, 1 << 20) for frame in made] == texts()
    again: list[bytes] = []
    thread = threading.Thread(target=lambda: again.extend(zstd.compress(text, level) for text in reversed(texts())))
    thread.start()
    thread.join()
    assert again[::-1] == made
    assert [zstd.declared(frame) for frame in made] == [len(text) for text in texts()]
