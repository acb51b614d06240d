"""The rules, compiled once for all tests of a run and all daemons that they start: it takes a second each time."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from hashlib import blake2b
from typing import Any

from sessiond.redact import redactor, rules, scanner
from sessiond.redact.cache import read, store
from sessiond.redact.policy import Policy
from sessiond.redact.redactor import Redactor

ORIGINALS = {
    (scanner, "compile_expressions"): scanner.compile_expressions,
    (scanner, "_build"): scanner._build,
    (rules, "load_rules"): rules.load_rules,
    (redactor, "load_rules"): rules.load_rules,
}
"""What `compile_once` replaces. Tests of these functions put them back."""
VARIABLE = "SESSIOND_TEST_RULES"
"""Names the directory to the processes of pytest-xdist."""


def compile_once() -> None:
    """Remember the built-in rules and each compiled database: the same expressions always become the same one."""
    databases: dict[tuple[tuple[bytes, bool], ...], Any] = {}
    ours = functools.cache(lambda: ORIGINALS[rules, "load_rules"](cache_dir=_prepared()))

    def compile_expressions(hyperscan: Any, expressions: list[tuple[bytes, bool]]) -> Any:
        key = tuple(expressions)
        if key not in databases:
            path = os.path.join(_shared(), f"expressions-{blake2b(repr(key).encode(), digest_size=16).hexdigest()}")
            content = read(path)
            if content is None:
                databases[key] = ORIGINALS[scanner, "compile_expressions"](hyperscan, expressions)
                store(path, hyperscan.dumpb(databases[key]))
            else:
                databases[key] = hyperscan.loadb(content, hyperscan.HS_MODE_BLOCK)
        return databases[key]

    def build(expressions: list[tuple[bytes, bool]]) -> bytes:
        import hyperscan

        return bytes(hyperscan.dumpb(compile_expressions(hyperscan, expressions)))

    def load_rules(text: str | None = None, *, file: str | None = None, cache_dir: str | None = None) -> rules.RuleSet:
        return ours() if text is None else ORIGINALS[rules, "load_rules"](text, file=file, cache_dir=cache_dir)

    scanner.compile_expressions, scanner._build = compile_expressions, build
    rules.load_rules = redactor.load_rules = load_rules


def share_rules() -> None:
    """Compile the rules for the processes that this one starts."""
    _compiled()
    os.environ[VARIABLE] = _shared()


@functools.cache
def _shared() -> str:
    """Return the directory with what was compiled in this run of the tests."""
    given = os.environ.get(VARIABLE)
    if given is not None:
        return given
    directory = tempfile.mkdtemp(prefix="sessiond-rules-")
    atexit.register(shutil.rmtree, directory)
    return directory


@functools.cache
def _prepared() -> str:
    """Return a directory with all that a daemon keeps of the built-in rules."""
    directory = os.path.join(_shared(), "rules")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    ORIGINALS[rules, "load_rules"](cache_dir=directory)
    return directory


@functools.cache
def _compiled() -> str:
    directory = _prepared()
    Redactor(Policy(), cache_dir=directory)
    return directory


def put_rules(state: str) -> None:
    """Make a state directory that has them, as after an earlier life of the daemon.

    Commands use them only where the installation has an identity as well: `device.identify`.
    """
    os.makedirs(state, mode=0o700, exist_ok=True)
    shutil.copytree(_compiled(), os.path.join(state, "rules"), dirs_exist_ok=True)
