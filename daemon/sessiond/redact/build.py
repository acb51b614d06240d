"""Compiles rules in a process of its own. Compiling takes twelve megabytes, which the daemon would never give back.

    python -P -m sessiond.redact.build FILE < EXPRESSIONS

EXPRESSIONS are a msgpack list. The compiled database is written to FILE, where `scanner` reads it.
"""

from __future__ import annotations

import sys

import msgspec


def main() -> int:
    """Compile the expressions on stdin."""
    import hyperscan

    from sessiond.redact.scanner import compile_expressions, store

    expressions = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[tuple[bytes, bool]])
    store(sys.argv[1], hyperscan.dumpb(compile_expressions(hyperscan, expressions)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
