"""Decoders that a function builds are built in sessiond.decoding, where threads do it one at a time.

Two threads that use a Struct for the first time crash the process: tests/unit/test_decoding.py shows it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from support.syntax import parse

DAEMON = Path(__file__).parents[2] / "daemon/sessiond"
PLAIN = {"Any", "bool", "bytes", "datetime", "dict", "float", "int", "list", "msgspec", "object", "str"}
"""Names in types without a Struct, of which msgspec keeps nothing between two calls."""


def unguarded(source: str) -> Iterator[int]:
    """Return the lines of calls in functions that make msgspec analyse a type that may be a Struct."""
    functions = [node for node in ast.walk(parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    calls = {call for function in functions for call in ast.walk(function) if isinstance(call, ast.Call)}
    for call in calls:
        name = ast.unparse(call.func)
        kinds: list[ast.expr] = []
        if name in ("msgspec.json.Decoder", "msgspec.msgpack.Decoder"):
            kinds = call.args[:1] or [keyword.value for keyword in call.keywords]
        elif name == "msgspec.convert":
            kinds = call.args[1:2]
        elif name in ("msgspec.json.decode", "msgspec.msgpack.decode"):
            kinds = [keyword.value for keyword in call.keywords if keyword.arg == "type"]
        names = {node.id for kind in kinds for node in ast.walk(kind) if isinstance(node, ast.Name)}
        if names - PLAIN:
            yield call.lineno


def test_functions_build_decoders_under_the_lock() -> None:
    """A decoder that is built without the lock may end the daemon or the endpoint with SIGSEGV."""
    found = [
        f"{path.relative_to(DAEMON)}:{line}"
        for path in sorted(DAEMON.rglob("*.py"))
        if path.name != "decoding.py" or path.parent != DAEMON
        for line in unguarded(path.read_text())
    ]
    assert found == []


def test_calls_that_analyse_a_type_are_recognised() -> None:
    """The check sees each of them, and none at module level or of a type without a Struct."""
    source = (
        "D = msgspec.json.Decoder(Kind)\n"
        "def f(kind):\n"
        "    msgspec.json.Decoder(Kind)\n"
        "    msgspec.json.decode(b'', type=dict[str, Kind])\n"
        "    msgspec.msgpack.decode(b'', type=kind)\n"
        "    msgspec.convert({}, Kind)\n"
        "    msgspec.json.decode(b'', type=dict[str, Any])\n"
        "    msgspec.json.decode(b'')\n"
    )
    assert sorted(unguarded(source)) == [3, 4, 5, 6]
