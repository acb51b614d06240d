"""Compiles expressions for Hyperscan: in a process of its own, or in the daemon if no process can be started.

    python -P -m sessiond.redact.build < EXPRESSIONS > DATABASE

Compiling takes about twenty megabytes, which the daemon would never give back. While the process runs, its memory adds
to the daemon's, so it imports nothing but Hyperscan. EXPRESSIONS are separated by NUL bytes. Each begins with "1" if
its first match in a text is enough, otherwise with "0".
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # like `typing.TYPE_CHECKING`, without the memory that its import takes
if TYPE_CHECKING:
    from typing import Any


def compile_expressions(hyperscan: Any, expressions: list[tuple[bytes, bool]]) -> Any:
    """Compile (expression, whether its first match is enough) into one database."""
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    all_matches, first = hyperscan.HS_FLAG_DOTALL, hyperscan.HS_FLAG_DOTALL | hyperscan.HS_FLAG_SINGLEMATCH
    database.compile(
        expressions=[expression for expression, _ in expressions],
        ids=list(range(len(expressions))),
        flags=[first if once else all_matches for _, once in expressions],
    )
    return database


def encode_expressions(expressions: list[tuple[bytes, bool]]) -> bytes:
    """Return (expression, whether its first match is enough) in the form that the process reads."""
    return b"\0".join([(b"1" if once else b"0") + expression for expression, once in expressions])


def decode_expressions(content: bytes) -> list[tuple[bytes, bool]]:
    """Return what `encode_expressions()` encoded."""
    return [(part[1:], part[:1] == b"1") for part in content.split(b"\0")]


def main() -> int:
    """Compile the expressions on stdin, and write the database to stdout."""
    import hyperscan

    sys.stdout.buffer.write(
        hyperscan.dumpb(compile_expressions(hyperscan, decode_expressions(sys.stdin.buffer.read())))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
