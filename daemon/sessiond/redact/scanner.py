"""Finds triggers in raw bytes: by Hyperscan, or by `re` where Hyperscan has no wheel.

Both return the same hits for each expression; `re` is slower.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from types import ModuleType
from typing import Any, Protocol

import msgspec

from sessiond.redact.budget import HIT, Budget
from sessiond.redact.build import compile_expressions, encode_expressions
from sessiond.redact.cache import read, store


class Hits(msgspec.Struct, frozen=True, gc=False):
    """The places of a trigger: marks in order, and how far before each of them its match may begin."""

    marks: list[int]
    low: int
    high: int
    ends: bool = True
    """Whether a mark is the end of a match and not its start."""


BUILDING = 60.0
"""Seconds after which the process that compiles is ended. It needs one."""


class Trigger(msgspec.Struct, frozen=True, gc=False):
    """An expression without assertions, the width of its match, and lower-case words, one of which is in each match.

    `front` is an expression for what precedes each relevant match, unless that is at the start of the data.
    """

    expression: str
    low: int
    high: int
    words: tuple[bytes, ...] = ()
    front: str = ""
    before: int = 0
    """How many bytes before the match a secret may begin, if it does not begin with the match."""
    once: bool = False
    """Whether the first match of a text is enough."""
    cost: int = HIT
    """What a match counts in the budget."""

    @property
    def bounded(self) -> bytes:
        """The expression with `front`."""
        return (f"(?:^|{self.front})(?:{self.expression})" if self.front else self.expression).encode()


class Scanner(Protocol):
    """Finds triggers."""

    name: str

    def scan(self, data: bytes | memoryview, budget: Budget) -> dict[int, Hits]:
        """Return the hits by the index of their trigger. Raises: OverBudgetError if there are too many."""
        ...


def make_scanner(triggers: Sequence[Trigger], cache_dir: str | None = None, engine: str | None = None) -> Scanner:
    """Return the fastest scanner that is available, or the one that `engine` names: "hyperscan" or "re"."""
    if not triggers or engine == "re":
        return PlainScanner(triggers)
    try:
        import hyperscan
    except ImportError:
        if engine is not None:
            raise
        return PlainScanner(triggers)
    return FastScanner(hyperscan, triggers, cache_dir)


class PlainScanner:
    """Finds each trigger with `re`, about a hundred times slower than Hyperscan."""

    name = "re"

    def __init__(self, triggers: Sequence[Trigger]) -> None:
        self._triggers = [(re.compile(trigger.expression.encode(), re.DOTALL), trigger) for trigger in triggers]

    def scan(self, data: bytes | memoryview, budget: Budget) -> dict[int, Hits]:
        """Return the hits by the index of their trigger; here a mark is the start of a match."""
        found: dict[int, Hits] = {}
        data = bytes(data)
        lowered = data.lower()
        for index, (regex, trigger) in enumerate(self._triggers):
            if trigger.words and not any(word in lowered for word in trigger.words):
                continue
            marks = []
            position = 0
            while (match := regex.search(data, position)) is not None:
                position = match.start() + 1
                marks.append(match.start())
                if trigger.once or len(marks) * trigger.cost > budget.hits:
                    break
            if marks:
                budget.report(len(marks) * trigger.cost)
                found[index] = Hits(marks, 0, trigger.before, ends=False)
        return found


class FastScanner:
    """Finds all triggers at once with Hyperscan, in the raw bytes. It reports where matches end, not where they begin.

    With HS_FLAG_SOM_LEFTMOST, which reports the beginning, Hyperscan refuses to compile expressions of variable width.
    The width of the trigger limits where its match begins.

    The library in the wheel (Vectorscan 5.4) misses some matches of complex alternations behind an optional group
    (compare vectorscan #358 and #382). So the tests compare this scanner with `re` on the examples of every rule.
    """

    name = "hyperscan"

    def __init__(self, hyperscan: ModuleType, triggers: Sequence[Trigger], cache_dir: str | None) -> None:
        self._hyperscan: Any = hyperscan
        self._terminated: type[Exception] = hyperscan.ScanTerminated
        self._widths = [(trigger.low, trigger.high) for trigger in triggers]
        self._costs = [trigger.cost for trigger in triggers]
        self._database = self._load(triggers, cache_dir)
        self._local = threading.local()

    def scan(self, data: bytes | memoryview, budget: Budget) -> dict[int, Hits]:
        """Return the hits by the index of their trigger; a mark is the end of a match."""
        scratch = getattr(self._local, "scratch", None)
        if scratch is None:
            # Hyperscan needs one for each thread.
            scratch = self._local.scratch = self._hyperscan.Scratch(self._database)
        found = _Found(budget.hits, self._costs)
        with contextlib.suppress(self._terminated):  # by `_note`, after too many matches; `report` raises then
            self._database.scan(data, match_event_handler=_note, context=found, scratch=scratch)
        if not found.ends:
            return {}
        budget.report(budget.hits - found.left)
        return {index: Hits(sorted(marks), *self._widths[index]) for index, marks in found.ends.items()}

    def _load(self, triggers: Sequence[Trigger], cache_dir: str | None) -> Any:
        expressions = [(trigger.bounded, trigger.once) for trigger in triggers]
        if cache_dir is None:
            return compile_expressions(self._hyperscan, expressions)
        digest = blake2b("\0".join([self._hyperscan.__version__, _cpu(), *map(repr, triggers)]).encode())
        path = os.path.join(cache_dir, f"rules-{digest.hexdigest()[:32]}.hsdb")
        database = self._loaded(read(path))
        if database is not None:
            return database
        content = _build(expressions)
        database = self._loaded(content)
        if content is None or database is None:
            database = compile_expressions(self._hyperscan, expressions)
            content = self._hyperscan.dumpb(database)
        store(path, content)
        return database

    def _loaded(self, content: bytes | None) -> Any:
        """Return a database; None if there is no content, or another version of the library made it."""
        if content is None:
            return None
        try:
            return self._hyperscan.loadb(content, self._hyperscan.HS_MODE_BLOCK)
        except self._hyperscan.HyperscanError:
            return None


def _build(expressions: list[tuple[bytes, bool]]) -> bytes | None:
    """Return the database that another process compiles (build.py). If that fails, the caller compiles in this one."""
    if not sys.executable:
        return None
    import subprocess  # a command that finds the rules compiled starts faster without it

    try:
        built = subprocess.run(
            [sys.executable, "-P", "-m", "sessiond.redact.build"],
            input=encode_expressions(expressions),
            capture_output=True,
            timeout=BUILDING,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return built.stdout if built.returncode == 0 else None


class _Found:
    """The matches of a scan so far, what each counts by its trigger, and what further ones may count."""

    __slots__ = ("costs", "ends", "left")

    def __init__(self, most: int, costs: list[int]) -> None:
        self.ends: defaultdict[int, list[int]] = defaultdict(list)
        self.costs = costs
        self.left = most


def _note(index: int, _start: int, end: int, _flags: int, found: _Found) -> bool | None:
    """Record a match. Hyperscan ends the scan if the result is true."""
    found.ends[index].append(end)
    found.left -= found.costs[index]
    return found.left < 0 or None


def _cpu() -> str:
    """Return what a compiled database depends on besides the library: the CPU's instructions."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = ""
    return f"{platform.machine()} {platform.processor()} {flags}"
