"""The tests that reach each line: measured once with coverage, kept in .mutants/ and renewed per test file.

Lines are known by their function and their text, not by their number: the measurement stays useful while the code
around a line changes. A test file is measured again when its own text has changed.
"""

from __future__ import annotations

import ast
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import coverage
import msgspec

from mutants.tree import ROOT, Tree

CACHE = ROOT / ".mutants" / "reach.json"
SUITES = {
    "daemon": (
        "tests/unit/daemon/test_*.py",
        "tests/integration/test_archive_copy.py",
        "tests/integration/test_archive_keep.py",
        "tests/integration/test_archive_limits.py",
        "tests/integration/test_backlog.py",
        "tests/integration/test_confirmed_copies.py",
        "tests/integration/test_daemon_run.py",
        "tests/integration/test_endpoint_answers.py",
        "tests/integration/test_read_back.py",
        "tests/integration/test_space_in_outbox.py",
        "tests/integration/test_sync_once.py",
        "tests/integration/test_writer_hold.py",
        "tests/process/test_*.py",
        "tests/process/service/test_live_config.py",
        "tests/process/service/test_network.py",
        "tests/unit/cli/test_verify_command.py",
        "tests/unit/logs/test_logs.py",
    ),
    "endpoint": (
        "tests/unit/endpoint/test_*.py",
        "tests/endpoint/test_*.py",
        "tests/integration/test_dictionary.py",
        "tests/integration/test_endpoint_answers.py",
        "tests/integration/test_outbox_delivery.py",
        "tests/process/test_hostile_endpoint.py",
    ),
    "ingest": ("tests/unit/ingest/test_*.py", "tests/integration/test_*.py", "tests/unit/cli/test_verify_command.py"),
    "spool": ("tests/unit/spool/test_*.py", "tests/integration/test_*.py"),
    "upload": ("tests/unit/upload/test_*.py", "tests/integration/test_*.py", "tests/unit/cli/test_verify_command.py"),
    "redact": ("tests/unit/redact/test_*.py", "tests/integration/test_privacy.py"),
    "watch": (
        "tests/unit/watch/test_*.py",
        "tests/unit/daemon/test_promptness.py",
        "tests/process/test_limits.py",
        "tests/process/test_wakeups.py",
    ),
}
"""The test files that are measured for a package. Others may reach it too, but cost more than they catch."""
OMITTED = (
    "test_watching.py",
    "test_pythons.py",
    "test_bench.py",
    "test_oracles.py",
    "test_boot.py",
    "test_macos.py",
    "test_samples.py",
)
"""Test files that say nothing about the mutated packages, or need another machine."""

_START = """
import atexit, coverage, os
os.environ.pop("COVERAGE_PROCESS_START", None)
_measuring = coverage.Coverage(config_file={config!r}, data_suffix=True)
_measuring._warn_no_data = False
_measuring.start()
_measuring.switch_context(open({context!r}).read())
def _save():
    _measuring.stop()
    _measuring.save()
atexit.register(_save)
"""
"""A module that Python runs at its start: it measures the processes that tests begin, whatever their environment."""


class Test(NamedTuple):
    """A test: its node id, the seconds it takes without a mutant and without other work, and the lines it reached."""

    name: str
    seconds: float
    lines: frozenset[str]


def line_key(file: str, function: str, text: str) -> str:
    """Return a line's key, which does not depend on its number."""
    return f"{file}::{function}::{text.strip()}"


@cache
def keys_of(path: Path) -> dict[int, str]:
    """Return the key of each line of a source file of the package."""
    text = path.read_text()
    lines = text.splitlines()
    functions = ["" for _ in range(len(lines) + 1)]

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}".removeprefix(".")
                for number in range(child.lineno, (child.end_lineno or child.lineno) + 1):
                    functions[number] = inner
            visit(child, inner)

    visit(ast.parse(text), "")
    file = str(path).split("/daemon/sessiond/", 1)[1]
    return {number: line_key(file, functions[number], lines[number - 1]) for number in range(1, len(lines) + 1)}


def files_of(packages: Sequence[str]) -> list[str]:
    """Return the test files of packages."""
    patterns = [pattern for package in packages for pattern in SUITES[package]]
    files = {path for pattern in patterns for path in ROOT.glob(pattern) if path.name not in OMITTED}
    return sorted(str(path.relative_to(ROOT)) for path in files)


def measured(names: Sequence[str], each: Callable[[Callable[[str, Tree], None], Sequence[str]], object]) -> list[Test]:
    """Return the tests of files with what they reach; measure the files that are new or have changed.

    `each` calls a function for each name with a tree, several at the same time.
    """
    known = msgspec.json.decode(CACHE.read_bytes()) if CACHE.exists() else {"keys": [], "files": {}}
    known["files"] = {name: seen for name, seen in known["files"].items() if (ROOT / name).is_file()}
    stored = Lock()

    def renew(name: str, tree: Tree) -> None:
        digest = sha256((ROOT / name).read_bytes()).hexdigest()
        if known["files"].get(name, {}).get("digest") == digest:
            return
        began = time.monotonic()
        measure(tree, name, digest, known, stored)
        with stored:
            CACHE.parent.mkdir(exist_ok=True)
            CACHE.write_bytes(msgspec.json.encode(known))
        print(f"measured {name} in {time.monotonic() - began:.0f} s", flush=True)

    each(renew, names)
    keys = known["keys"]
    return [
        Test(test, seen["seconds"], frozenset(keys[index] for index in seen["lines"]))
        for name in names
        if name in known["files"]
        for test, seen in known["files"][name]["tests"].items()
    ]


def measure(tree: Tree, name: str, digest: str, known: dict, stored: Lock) -> None:
    """Run one test file under coverage, and add what its tests took and reached."""
    config, context, results = tree.base / "coveragerc", tree.base / "context", tree.base / "results"
    data, starter = tree.base / "data" / "coverage", tree.root / "daemon" / "sitecustomize.py"
    shutil.rmtree(data.parent, ignore_errors=True)
    data.parent.mkdir()
    context.write_text("")
    results.write_text("")
    config.write_text(
        f"[run]\nsource = {tree.root}/daemon/sessiond\ndata_file = {data}\n"
        "disable_warnings = no-data-collected,already-imported,module-not-measured\n"
    )
    starter.write_text(_START.format(config=str(config), context=str(context)))
    try:
        tree.run({"measure": name, "config": str(config), "context": str(context), "results": str(results)})
    finally:
        starter.unlink()
    outcomes = [msgspec.json.decode(line) for line in results.read_text().splitlines()]
    for outcome in outcomes:
        if not outcome["passed"]:
            print(f"  fails without a mutant, so it is not used: {outcome['test']}", flush=True)
    if not outcomes:
        print(f"  no tests ran: {name}", flush=True)
        return
    reached = lines_of(data)
    with stored:
        numbers = {key: index for index, key in enumerate(known["keys"])}
        tests = {}
        for outcome in outcomes:
            if outcome["passed"]:
                lines = [numbers.setdefault(key, len(numbers)) for key in sorted(reached.get(outcome["test"], ()))]
                tests[outcome["test"]] = {"seconds": outcome["seconds"], "lines": lines}
        known["keys"] = list(numbers)
        known["files"][name] = {"digest": digest, "tests": tests}


def lines_of(data: Path) -> dict[str, set[str]]:
    """Return the keys of the lines that each test reached, in all processes it started."""
    reached: dict[str, set[str]] = {}
    for part in data.parent.glob("coverage*"):
        found = coverage.CoverageData(str(part))
        try:
            found.read()
        except coverage.exceptions.DataError as error:
            # A process that a test kills leaves half a file. The lines that it alone reached are not known then, so a
            # mutant of them may count as a survivor, never as caught.
            print(f"  coverage of a killed process can't be read: {error}", flush=True)
            continue
        for path in found.measured_files():
            keys = keys_of(Path(path))
            for number, contexts in found.contexts_by_lineno(path).items():
                for test in contexts:
                    if number in keys:
                        reached.setdefault(test, set()).add(keys[number])
    return reached
