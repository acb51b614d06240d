"""The tasks that occur in many places are written once: writing a file, the clock, loopback, exit codes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

from support.syntax import nodes

DAEMON = Path(__file__).parents[2] / "daemon/sessiond"

WRITERS: dict[str, str] = {
    "atomic.py:_replace": "atomic_write itself",
    "atomic.py:atomic_write": "atomic_write itself",
    "cli/__init__.py:_drop_output": "/dev/null",
    "cli/demo.py:_append": "a session in a temporary home, as a tool would write it",
    "cli/editing.py:_edit": "a draft in a temporary directory",
    "cli/run.py:_open_standard_streams": "/dev/null and the standard streams",
    "config/write.py:_try": "copies in a temporary directory",
    "endpoint/server/lock.py:StoreLock._take": "the lock file, which is written in place and never read as a whole",
    "ingest/compressed.py:decompress_file": "an unnamed temporary file",
    "ingest/pins.py:Pins.settle": "replaces a hard link, which has no content of its own",
    "logs/sinks.py:FileSink._rotate": "log files",
    "logs/sinks.py:_create_private": "log files",
    "restore/engine.py:_write": "a temporary file, listed in the journal before it is created",
    "restore/fetch.py:Archive._copy": "an unnamed file",
    "restore/journal.py:JournalFile.locked": "the lock file",
    "restore/journal.py:_append": "appends to a transcript; the journal completes it after a kill",
    "restore/journal.py:_link": "gives a complete file its name, where the disk has no hard links",
    "restore/journal.py:_replace": "replaces an index by a complete file",
    "restore/journal.py:_take_back": "removes what an append that failed has written",
    "spool/damaged.py:set_aside": "moves a damaged database",
    "sqlite_files.py:create_private": "an empty file for SQLite",
    "state.py:Lock.__init__": "the lock file: it must be writable on a full disk, so it is overwritten in place",
    "transcript/texts.py:Texts._write": "an unnamed file",
}
"""Functions that write, create or rename a file without atomic_write, with the reason."""

CLOCKS: dict[str, str] = {
    "clock.py:now_ms": "the clock itself",
    "watch/kernel.py:asleep": "a difference to another clock, not a time",
}
LOOPBACK: dict[str, str] = {"config/url.py:is_loopback": "the rule itself"}

Call = ast.Call


def functions(source: str, matches: Callable[[ast.AST], bool]) -> Iterator[str]:
    """Iterate the functions (`Class.function`) of a module with a matching node."""
    return (inside for node, inside in nodes(source) if matches(node))


def found(matches: Callable[[ast.AST], bool]) -> list[str]:
    """Return the functions of the program with a matching node, as `module:Class.function`."""
    return sorted(
        {
            f"{path.relative_to(DAEMON).as_posix()}:{function}"
            for path in DAEMON.rglob("*.py")
            for function in functions(path.read_text(encoding="utf-8"), matches)
        }
    )


def dotted(node: ast.AST) -> str:
    """Return a name such as `os.replace`; empty if the node is not one."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def writes_a_file(node: ast.AST) -> bool:
    """Return whether a call writes, creates or renames a file, as far as its text shows."""
    if not isinstance(node, Call):
        return False
    name = dotted(node.func)
    if name in ("open", "os.fdopen", "io.open"):
        modes = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
        return any(isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wax+") for mode in modes)
    if name == "os.open":
        return any(isinstance(part, ast.Attribute) and part.attr in WRITING for part in ast.walk(node))
    last = name.rpartition(".")[2] if name else getattr(node.func, "attr", "")
    return name in RENAMES or last in ("write_text", "write_bytes", "mkstemp", "NamedTemporaryFile", "TemporaryFile")


WRITING = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC")
RENAMES = ("os.replace", "os.rename", "os.renames", "os.truncate", "shutil.move", "shutil.copyfile")


def reads_the_clock(node: ast.AST) -> bool:
    """Return whether a call returns the time of day."""
    name = dotted(node.func) if isinstance(node, Call) else ""
    dates = {f"{kind}.{method}" for kind in ("datetime", "date") for method in ("now", "utcnow", "today")}
    return name in ("time.time", "time.time_ns") or ".".join(name.split(".")[-2:]) in dates


def decides_about_loopback(node: ast.AST) -> bool:
    """Return whether an expression asks if an address is loopback: by an attribute, or by comparing with a text."""
    if isinstance(node, ast.Attribute) and node.attr == "is_loopback":
        return True
    compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
    if isinstance(node, Call) and getattr(node.func, "attr", "") in ("startswith", "endswith"):
        compared = list(node.args)
    names = ("localhost", ".localhost", "127.", "127.0.0.1", "::1", "[::1]")
    return any(isinstance(part, ast.Constant) and part.value in names for each in compared for part in ast.walk(each))


def has_an_exit_code(node: ast.AST) -> bool:
    """Return whether a number is used as an exit code other than 0."""
    numbers: list[ast.expr | None] = []
    if isinstance(node, ast.Assign) and any(dotted(target).endswith("exit_code") for target in node.targets):
        numbers = [node.value]
    if isinstance(node, Call) and dotted(node.func) in ("SystemExit", "sys.exit", "os._exit", "exit"):
        numbers = list(node.args)
    return any(isinstance(part, ast.Constant) and part.value for each in numbers if each for part in ast.walk(each))


def returns_a_number(node: ast.AST) -> bool:
    """Return whether a number other than 0 is returned, which in a command is an exit code."""
    value = node.value if isinstance(node, ast.Return) else None
    return isinstance(value, ast.Constant) and type(value.value) is int and value.value != 0


def test_every_small_file_is_written_with_atomic_write() -> None:
    """Add a function to WRITERS only if half a file, or none, does no harm."""
    assert sorted(set(found(writes_a_file)) - WRITERS.keys()) == []


def test_every_exception_still_writes_a_file() -> None:
    """Remove from WRITERS what uses atomic_write now."""
    assert sorted(WRITERS.keys() - set(found(writes_a_file))) == []


def test_the_time_of_day_comes_from_one_clock() -> None:
    assert found(reads_the_clock) == sorted(CLOCKS)


def test_one_rule_decides_what_is_loopback() -> None:
    assert found(decides_about_loopback) == sorted(LOOPBACK)


def test_exit_codes_come_from_one_table() -> None:
    """exit_codes.py has them, and docs/operations.md explains them."""
    assert found(has_an_exit_code) == []
    assert [name for name in found(returns_a_number) if name.startswith("cli/")] == []


def test_the_rules_find_what_they_look_for() -> None:
    writing = (
        "def a(): open('x', 'w')\ndef b(): os.open('x', os.O_RDWR)\ndef c(): open('x')\ndef d(): os.replace(a, b)\n"
        "def e(): Path('x').write_text('y')\ndef f(): os.open('x', os.O_RDONLY)\ndef g(): open(1, mode='ab')\n"
    )
    assert list(functions(writing, writes_a_file)) == ["a", "b", "d", "e", "g"]
    clocks = (
        "def a(): time.time()\ndef b(): datetime.datetime.now(UTC)\ndef c(): date.today()\n"
        "def d(): time.sleep(1)\ndef e(): clock.now()\n"
    )
    assert list(functions(clocks, reads_the_clock)) == ["a", "b", "c"]
    loopback = (
        "def a(): host == '127.0.0.1'\ndef b(): host in ('::1', 'x')\ndef c(): ip_address(host).is_loopback\n"
        "def d(): host.endswith('.localhost')\ndef e(): bind('127.0.0.1')\ndef f(): is_loopback(host)\n"
    )
    assert list(functions(loopback, decides_about_loopback)) == ["a", "b", "c", "d"]
    codes = (
        "class A:\n    exit_code = 3\ndef b(): sys.exit(1)\ndef c(): sys.exit(main())\ndef d(): raise SystemExit(0)\n"
    )
    assert list(functions(codes, has_an_exit_code)) == ["A", "b"]
    assert list(functions("def a(): return 1\ndef b(): return 0\ndef c(): return True", returns_a_number)) == ["a"]
