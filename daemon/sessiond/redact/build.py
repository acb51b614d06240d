"""Compile rules in a process of its own: it takes twelve megabytes, which the daemon would keep for ever.

    python -P -m sessiond.redact.build FILE < EXPRESSIONS

Expressions come as a msgpack list; FILE gets the database in the form that `scanner` caches.
"""

from __future__ import annotations

import sys

import msgspec


def main() -> int:
    """Compile what stands on stdin."""
    import hyperscan

    from sessiond.redact.scanner import compile_expressions, store

    expressions = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[tuple[bytes, bool]])
    store(sys.argv[1], hyperscan.dumpb(compile_expressions(hyperscan, expressions)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
