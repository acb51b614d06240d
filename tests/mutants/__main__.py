"""Break the code on purpose, and see that the tests notice: `make mutants`.

First the named mutants, then those that are drawn from each package. Words select: a package runs its draw alone, any
other word the named mutants with it in their names. The exit code is 1 when a named mutant survives or when less than
92 % of a package's meaningful mutants are caught.

The first run measures which tests reach which line. After `--minutes` no further mutant is judged;
the rates say how many were.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

from endpoint.postgres import share_server
from mutants import judge, named
from mutants.draw import COUNT, PACKAGES, SEED, Drawn, draw, mutants_of
from mutants.harmless import HARMLESS
from mutants.named_capture import CAPTURE
from mutants.named_edges import EDGES
from mutants.reach import files_of, measured
from mutants.selection import Selection
from mutants.tree import NICENESS, Tree, private_tree
from support.scratch import use_memory

WANTED = 0.92
"""The part of a package's meaningful mutants that the tests have to catch."""

MINUTES = 55
"""After this time no further mutant is judged: a run ends within the hour."""

M = TypeVar("M")
V = TypeVar("V")


class Trees:
    """Private copies of the tree, one for each mutant that is judged at the same time."""

    def __init__(self, stack: ExitStack, count: int, deadline: float) -> None:
        """`deadline` is the time (monotonic) after which no further mutant is judged."""
        self._deadline = deadline
        self._free: SimpleQueue[Tree] = SimpleQueue()
        self._trees = [stack.enter_context(private_tree()) for _ in range(count)]
        for tree in self._trees:
            self._free.put(tree)
        self._pool = stack.enter_context(ThreadPoolExecutor(count))

    def collect(self, files: list[str]) -> None:
        """Set the test files that `Tree.run` collects."""
        for tree in self._trees:
            tree.files = files

    def each(self, verdict: Callable[[M, Tree], V], mutants: Sequence[M]) -> list[V]:
        """Judge mutants; return the verdicts in the same order, without those that are not judged any more."""

        def one(mutant: M) -> V | None:
            if time.monotonic() > self._deadline:
                return None
            tree = self._free.get()
            try:
                return verdict(mutant, tree)
            finally:
                self._free.put(tree)

        return [found for found in self._pool.map(one, mutants) if found is not None]


class Rate(NamedTuple):
    """How many of the mutants to judge were judged and caught, and whether that is enough."""

    name: str
    meaningful: int
    judged: int
    caught: int
    wanted: float

    @property
    def part(self) -> float:
        """The part of the judged mutants that was caught."""
        return self.caught / self.judged if self.judged else 1.0

    @property
    def passed(self) -> bool:
        """Return whether enough were caught."""
        return self.part >= self.wanted

    def __str__(self) -> str:
        """Return the line of the summary."""
        skipped = f", {self.meaningful - self.judged} not judged" if self.judged < self.meaningful else ""
        verdict = "" if self.passed else "  TOO FEW"
        return f"{self.name:<10} {self.caught:>3} of {self.judged:>3} caught: {self.part:6.1%}{skipped}{verdict}"


def run_named(trees: Trees, words: Sequence[str], selection: Selection | None) -> Rate:
    """Judge the named mutants with all words in their names."""
    chosen = [mutant for mutant in (*CAPTURE, *EDGES) if all(word in mutant.name for word in words)]

    def verdict(mutant: named.Named, tree: Tree) -> named.Verdict:
        found = named.judge(mutant, tree, selection)
        caught = (found.caught or "SURVIVED").removeprefix("tests/")
        print(f"{mutant.name:<66} {found.seconds:4.0f} s  {caught}", flush=True)
        return found

    verdicts = trees.each(verdict, chosen)
    rate = Rate("named", len(chosen), len(verdicts), sum(found.caught is not None for found in verdicts), 1.0)
    print(f"{rate}\n", flush=True)
    return rate


def run_package(trees: Trees, package: str, seed: int, count: int, selection: Selection) -> Rate:
    """Draw mutants of a package and judge them; print the survivors."""
    drawn = draw(package, seed, count)
    meaningful = [mutant for mutant in drawn if mutant.key not in HARMLESS]

    def verdict(mutant: Drawn, tree: Tree) -> judge.Verdict:
        found = judge.judge(mutant, tree, selection)
        where = f"{mutant.file}:{mutant.change.line}"
        if found.caught:
            print(f"  caught {found.seconds:4.0f} s  {where:<36} {found.caught.removeprefix('tests/')}", flush=True)
        else:
            print(f"  SURVIVED {found.tests} tests, {found.seconds:.0f} s: {where}\n{mutant.diff}", flush=True)
            print(f"    key: {mutant.key}", flush=True)
        return found

    print(f"{package}: seed {seed}", flush=True)
    verdicts = trees.each(verdict, meaningful)
    caught = sum(found.caught is not None for found in verdicts)
    rate = Rate(package, len(meaningful), len(verdicts), caught, WANTED)
    print(f"{rate} ({len(drawn)} drawn, {len(drawn) - len(meaningful)} harmless)\n", flush=True)
    return rate


def name_unused(packages: Sequence[str]) -> None:
    """Print the entries of the harmless list whose code is gone."""
    keys = {mutant.key for package in packages for mutant in mutants_of(package)}
    for key in HARMLESS.keys() - keys:
        print(f"harmless.py: no such mutant any more: {key}")


def main() -> int:
    """Judge what the arguments select, or everything."""
    parser = argparse.ArgumentParser(prog="make mutants MUTANTS=...", description=__doc__)
    parser.add_argument("words", nargs="*", help=f"packages ({', '.join(PACKAGES)}), or parts of a name")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=COUNT, help="mutants to draw per package")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants to judge at the same time")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time after which no further mutant is judged")
    options = parser.parse_args()
    packages = [word for word in options.words if word in PACKAGES]
    words = [word for word in options.words if word not in PACKAGES]
    os.nice(NICENESS)
    use_memory()
    share_server()
    began, rates = time.monotonic(), list[Rate]()
    with ExitStack() as stack:
        trees = Trees(stack, options.jobs, began + options.minutes * 60)
        selection = None
        if packages or not words:
            name_unused(PACKAGES)
            files = files_of(packages or PACKAGES)
            trees.collect(files)
            selection = Selection(measured(files, trees.each))
        if words or not packages:
            rates.append(run_named(trees, words, selection))
        if selection is not None:
            for package in packages or PACKAGES:
                rates.append(run_package(trees, package, options.seed, options.count, selection))
    print(*rates, f"{(time.monotonic() - began) / 60:.0f} minutes", sep="\n")
    return 0 if all(rate.passed for rate in rates) else 1


if __name__ == "__main__":
    sys.exit(main())
