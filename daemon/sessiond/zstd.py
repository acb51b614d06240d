"""Zstandard with limits. Only this module imports the library.

A few bytes can decode to gigabytes, so every decoding has a limit. It applies while decoding: bytes over the limit are
never in memory.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator

from sessiond.errors import SessiondError

if sys.version_info >= (3, 14):
    from compression import zstd as _zstd
else:
    from backports import zstd as _zstd

LEVEL = 3
WINDOW_LOG = 23
"""Largest window of a frame, 8 MiB (as in RFC 9659). A decoder reserves the window that a frame asks for."""
MAX_FRAMES = 256
"""Consecutive frames. An empty frame costs its sender 9 bytes, and the reader a new decoder."""
SLICE = 64 << 10
SMALL = 16 << 10
"""Bytes that are compressed with a compressor that is kept. Its memory grows with the longest data."""
HEAD = 18
"""Bytes of the longest frame header."""
_CHECKED: dict[int, int] = {_zstd.CompressionParameter.checksum_flag: 1}
_WINDOWS: dict[int, dict[int, int]] = {1: {_zstd.CompressionParameter.window_log: 20}}
"""The window of a level that differs from the library's. Level 1 looks back over 512 KiB by default. Over a whole
segment of 1 MiB, frames of transcripts are 5 % smaller, and made 9 % faster."""


class Undecodable(SessiondError):
    """The bytes are not Zstandard, are cut short, or ask for a window that is too large."""


class Oversized(Undecodable):
    """More would come out than the limit allows."""


def compress(data: bytes, level: int = LEVEL, prefix: bytes = b"") -> bytes:
    """Compress to one frame with its decoded size and a checksum. With a prefix, the frame may refer to those bytes.

    A frame with a prefix has no checksum: it is sent at once and never stored.
    """
    if not prefix:
        compressor = _small_compressor(level) if len(data) <= SMALL else _compressor(level)
        return bytes(compressor.compress(data, compressor.FLUSH_FRAME))
    compressor = _zstd.ZstdCompressor(level=level, zstd_dict=_zstd.ZstdDict(prefix, is_raw=True).as_prefix)
    compressor.set_pledged_input_size(len(data))  # otherwise its tables are sized for megabytes
    return bytes(compressor.compress(data, compressor.FLUSH_FRAME))


def _small_compressor(level: int) -> _zstd.ZstdCompressor:
    """Return this thread's compressor of short data. To make one takes longer than to compress a line."""
    found = _small.compressors.get(level)
    if found is None:
        found = _small.compressors[level] = _compressor(level)
    return found


def _compressor(level: int) -> _zstd.ZstdCompressor:
    options = _CHECKED | {_zstd.CompressionParameter.compression_level: level} | _WINDOWS.get(level, {})
    return _zstd.ZstdCompressor(options=options)


class _Compressors(threading.local):
    def __init__(self) -> None:
        self.compressors: dict[int, _zstd.ZstdCompressor] = {}


_small = _Compressors()


def declared(head: bytes) -> int:
    """Return the decoded size that a frame declares in its first HEAD bytes; 0 if it declares none."""
    try:
        return _zstd.get_frame_info(head).decompressed_size or 0
    except _zstd.ZstdError:
        return 0


def decompress(data: bytes, limit: int) -> bytes:
    """Decode one or more frames of at most `limit` bytes in all.

    Raises:
        Oversized: more than `limit` bytes would come out.
        Undecodable: the data is not complete Zstandard frames.
    """
    return b"".join(decompress_stream((data,), limit))


def decompress_stream(parts: Iterable[bytes], limit: int, prefix: bytes = b"") -> Iterator[bytes]:
    """Iterate over the decoded bytes of frames that arrive in parts: at most 64 KiB at a time, and `limit` in all.

    `prefix` is the prefix with which they were compressed.

    Raises:
        Oversized: more than `limit` bytes would come out.
        Undecodable: the parts together are not complete Zstandard frames.
    """
    decoder, frames, total = _decoder(prefix), 1, 0
    for slice_ in _slices(parts):
        rest = slice_
        while rest or not (decoder.eof or decoder.needs_input):
            if decoder.eof:
                decoder, frames = _decoder(prefix), frames + 1
                if frames > MAX_FRAMES:
                    raise Undecodable(f"more than {MAX_FRAMES} Zstandard frames in a row")
            try:
                piece = decoder.decompress(rest, max_length=min(SLICE, limit - total + 1))
            except _zstd.ZstdError as error:
                raise Undecodable(f"not Zstandard data that can be decoded: {error}") from error
            rest = decoder.unused_data if decoder.eof else b""
            total += len(piece)
            if total > limit:
                raise Oversized(f"more than {limit} bytes would come out")
            if piece:
                yield piece
    if not decoder.eof:
        raise Undecodable("the Zstandard data ends in the middle of a frame")


def _slices(parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        for start in range(0, len(part), SLICE):
            yield part[start : start + SLICE]


def _decoder(prefix: bytes) -> _zstd.ZstdDecompressor:
    options: dict[int, int] = {_zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
    if not prefix:
        return _zstd.ZstdDecompressor(options=options)
    return _zstd.ZstdDecompressor(_zstd.ZstdDict(prefix, is_raw=True).as_prefix, options)
