"""Print the longest steps during which one thread of a process keeps all others waiting.

    make bench-steps

Python runs one thread at a time, and gives another its turn between two calls, not within one. So what a session waits
for another one, or a device for another one, is at least the longest call. The times are CPU seconds of the calling
thread, so they do not depend on what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from sessiond.endpoint.server.push_lines import decode_lines
from sessiond.endpoint.wire import Limits
from sessiond.ingest.line_reader import MAX_PARTS, MAX_RECORD, is_decodable
from sessiond.ingest.pipeline import decode
from sessiond.privacy import Masking, Terms
from sessiond.reader import CHUNK
from sessiond.redact.policy import Policy
from sessiond.session import Fold
from sessiond.sources import find_sources

HEAD = b'{"type":"user","message":{"role":"user","content":'
TAIL = b"}}\n"
PART = b'{"type":"text","text":"a"},'
REPEATS = 3


def record(content: bytes) -> bytes:
    """Return a record of Claude Code with this content."""
    return HEAD + content + TAIL


def parts(count: int, size: int) -> bytes:
    """Return a list of `count` texts of `size` bytes in all."""
    filler = b"a" * (size // count - len(PART))
    return b"[" + (PART[:-3] + filler + PART[-3:]) * (count - 1) + PART[:-1] + b"]"


def capture(data: bytes) -> None:
    """Decode a record as the capture thread does."""
    source = next(source for source in find_sources() if source.tool == "claude-code")
    if is_decodable(data):
        decode(source, data, Fold(), 0)


def steps() -> Iterator[tuple[str, Callable[[], object]]]:
    """Iterate over the steps to measure, each with its name."""
    size = MAX_RECORD - (1 << 16)
    text, some = record(b'"' + b"x" * size + b'"'), record(parts(MAX_PARTS - 100, size))
    many = record(b"[" + PART * (size // len(PART) - 1) + PART[:-1] + b"]")
    yield "decode a record of 64 MiB: one text", lambda: capture(text)
    yield f"decode a record of 64 MiB: {MAX_PARTS:,} parts", lambda: capture(some)
    yield f"decide not to decode one of {size // len(PART):,} parts", lambda: capture(many)
    masking = Masking(Terms(policy=Policy()))
    piece = record(b'"' + b"the quick brown fox jumps over a key = value pair, " * (CHUNK // 51) + b'"')
    masking.mask(b"x\n")  # compiles the rules
    yield "mask a piece of 1 MiB", lambda: masking.mask(piece)
    wide = b'{"op":"append","x":[' + b"[]," * (Limits().decoded // 3 - 10) + b"[]]}"
    yield "endpoint: decode a line of 32 MiB with 11 million parts", lambda: decode_lines([wide], Limits())


def seconds(step: Callable[[], object]) -> float:
    """Return the CPU seconds of a step: the least of a few, without what a first call initializes."""
    took = []
    for _ in range(REPEATS):
        begun = time.thread_time()
        with suppress(ValueError):
            step()
        took.append(time.thread_time() - begun)
    return min(took)


def main() -> None:
    """Measure and print."""
    for name, step in steps():
        print(f"{name:<58} {seconds(step) * 1000:6.0f} ms", flush=True)


if __name__ == "__main__":
    main()
