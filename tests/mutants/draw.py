"""Draws mutants of a package: the same ones for the same seed, whatever else of the code changes.

Every mutant is known by its file, its function, and what becomes of its lines. A seed orders the mutants by the hash
of that: a draw takes the first ones. A line that moves, or one that is added elsewhere, changes none of it.
"""

from __future__ import annotations

import difflib
from collections import Counter
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mutants.mutations import Change, apply, changes, is_valid
from mutants.tree import ROOT

PACKAGES = ("daemon", "endpoint", "ingest", "spool", "upload", "redact", "watch")
SEED = 1
COUNT = 25
SOURCE = ROOT / "daemon" / "sessiond"


class Drawn(NamedTuple):
    """A drawn mutant: `file` is relative to the package sessiond; `key` is what it is known by."""

    package: str
    file: str
    change: Change
    key: str
    source: str

    @property
    def text(self) -> str:
        """Return the mutated file."""
        return apply(self.source, self.change)

    @property
    def diff(self) -> str:
        """Return the lines that differ, with - and + before them."""
        lines = difflib.unified_diff(self.source.splitlines(), self.text.splitlines(), lineterm="", n=0)
        return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def files_of(package: str) -> list[Path]:
    """Return the source files of a package, or the one of a module."""
    module = SOURCE / f"{package}.py"
    return [module] if module.exists() else sorted((SOURCE / package).rglob("*.py"))


def mutants_of(package: str) -> list[Drawn]:
    """Return all mutants of a package."""
    found = []
    for path in files_of(package):
        source, file = path.read_text(), str(path.relative_to(SOURCE))
        seen: Counter[str] = Counter()
        for change in changes(source):
            key = _key(file, source, change)
            seen[key] += 1
            found.append(Drawn(package, file, change, key + (f" #{seen[key]}" if seen[key] > 1 else ""), source))
    return found


def _key(file: str, source: str, change: Change) -> str:
    first = source.rfind("\n", 0, change.start) + 1
    last = source.find("\n", change.end)
    last = len(source) if last < 0 else last
    old = " ".join(source[first:last].split())
    new = " ".join((source[first : change.start] + change.text + source[change.end : last]).split())
    return f"{file}::{change.function}: {old} => {new}"


def draw(package: str, seed: int = SEED, count: int = COUNT) -> list[Drawn]:
    """Return `count` mutants of a package."""

    def rank(mutant: Drawn) -> bytes:
        return sha256(f"{seed}\0{mutant.key}".encode()).digest()

    ranked = sorted(mutants_of(package), key=rank)
    return list(islice((mutant for mutant in ranked if is_valid(mutant.text)), count))
