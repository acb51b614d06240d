"""Samples as the tools leave them: a home directory, its databases are made from the `<name>.sql` beside them.

`{home}` in a JSON file is replaced by that directory: some tools keep a list of absolute paths.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SAMPLES = Path(__file__).parents[1] / "conformance" / "samples"
NAMES = sorted(str(path.parent.relative_to(SAMPLES)) for path in SAMPLES.glob("*/*/expected.json"))
WRITTEN_NS = 1_780_000_000_000_000_000
"""When every file of a sample was last written: 2026-05-28."""
_SHARED = set[str]()


def expected(name: str) -> list[dict[str, Any]]:
    """Return the expected sessions of a sample."""
    found: list[dict[str, Any]] = json.loads((SAMPLES / name / "expected.json").read_bytes())
    return found


def build(name: str, target: str | Path) -> str:
    """Make a sample's home directory, as a copy of the one that tests share."""
    shared = os.fsencode(built(name))
    shutil.copytree(built(name), target, dirs_exist_ok=True)
    for path in Path(target).rglob("*.json"):
        content = path.read_bytes()
        if shared in content:
            path.write_bytes(content.replace(shared, os.fsencode(target)))
            os.utime(path, ns=(WRITTEN_NS, WRITTEN_NS))
    return str(target)


def _make(name: str, target: str | Path) -> str:
    shutil.copytree(SAMPLES / name, target, dirs_exist_ok=True)
    os.unlink(os.path.join(target, "expected.json"))
    Path(target, "show.txt").unlink(missing_ok=True)  # what `show` prints of it: tests/conformance/shown.py
    for path in sorted(Path(target).rglob("*.sql")):
        database = open_store(path.with_suffix(""))
        database.executescript(path.read_text(encoding="utf-8"))
        database.close()
        path.unlink()
    for path in Path(target).rglob("*.json"):
        content = path.read_bytes()
        if b"{home}" in content:
            path.write_bytes(content.replace(b"{home}", os.fsencode(target)))
    for path in Path(target).rglob("*"):
        os.utime(path, ns=(WRITTEN_NS, WRITTEN_NS))
    return str(target)


@cache
def built(name: str) -> str:
    """Make a sample's home directory once, for tests that only read it."""
    target = tempfile.mkdtemp(prefix="sample-")
    atexit.register(shutil.rmtree, target)
    _SHARED.add(target)
    return _make(name, target)


def is_shared(tree: str) -> bool:
    """Return whether tests only read this home directory, so that what was found in it holds for all of them."""
    return tree in _SHARED


def open_store(path: str | Path) -> sqlite3.Connection:
    """Open a tool's database as the tool does. In the .sql, `zstd(text)` makes a compressed value."""
    database = sqlite3.connect(path, isolation_level=None)
    database.create_function("zstd", 1, lambda text: zstd.compress(text.encode()), deterministic=True)
    return database


def statements(script: str) -> Iterator[str]:
    """Split a script into the statements that the tool commits one by one."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
