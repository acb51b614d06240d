"""The least possible cost of capturing: read, decode three fields a line, scan for secrets, compress; store nothing.

python bench/floor.py DIRECTORY prints the seconds on a CPU as JSON: of each step and of all.
"""

from __future__ import annotations

import json
import os
import sys
import time

import msgspec

from sessiond import zstd
from sessiond.ingest.line_reader import read_lines
from sessiond.ingest.pipeline import LEVEL
from sessiond.redact import Policy, Redactor


class Line(msgspec.Struct, gc=False):
    """The fields that every tool's records have."""

    type: str | None = None
    timestamp: str | None = None
    uuid: str | None = None


def main() -> None:
    """Process all session files once, a chunk at a time."""
    decode = msgspec.json.Decoder(Line).decode
    mask = Redactor(Policy()).mask
    spent = dict.fromkeys(("read", "decode", "scan", "compress"), 0.0)
    for folder, _, names in os.walk(sys.argv[1]):
        for name in names:
            if not name.endswith(".jsonl"):
                continue
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
            at = time.thread_time()
            for chunk in read_lines(descriptor, 0, os.fstat(descriptor).st_size):
                at = _add(spent, "read", at)
                view, start, find = memoryview(chunk.data), 0, chunk.data.find
                while (stop := find(b"\n", start)) >= 0:
                    decode(view[start:stop])
                    start = stop + 1
                at = _add(spent, "decode", at)
                masked = mask(chunk.data).data
                at = _add(spent, "scan", at)
                zstd.compress(masked, LEVEL)
                at = _add(spent, "compress", at)
            os.close(descriptor)
    print(json.dumps({**spent, "all": sum(spent.values())}))


def _add(spent: dict[str, float], step: str, since: float) -> float:
    now = time.thread_time()
    spent[step] += now - since
    return now


if __name__ == "__main__":
    main()
