"""Break the code on purpose, and see that the tests notice: `make mutants`.

First the named mutants, then those that are drawn from each package. Words select: a package runs its draw alone, any
other word the named mutants with it in their names. The exit code is 1 when a named mutant survives or when less than
92 % of a package's meaningful mutants are caught.
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
from typing import TypeVar

from mutants import judge, named
from mutants.draw import COUNT, PACKAGES, SEED, Drawn, draw, mutants_of
from mutants.harmless import HARMLESS
from mutants.named_capture import CAPTURE
from mutants.named_edges import EDGES
from mutants.reach import measured
from mutants.tree import NICENESS, Tree, private_tree

WANTED = 0.92
"""The part of a package's meaningful mutants that the tests have to catch."""

M = TypeVar("M")
V = TypeVar("V")


class Trees:
    """Private copies of the tree, one for each mutant that is judged at the same time."""

    def __init__(self, stack: ExitStack, count: int) -> None:
        self._free: SimpleQueue[Tree] = SimpleQueue()
        for _ in range(count):
            self._free.put(stack.enter_context(private_tree()))
        self._pool = stack.enter_context(ThreadPoolExecutor(count))

    def each(self, verdict: Callable[[M, Tree], V], mutants: Sequence[M]) -> list[V]:
        """Judge mutants; return the verdicts in the same order."""

        def one(mutant: M) -> V:
            tree = self._free.get()
            try:
                return verdict(mutant, tree)
            finally:
                self._free.put(tree)

        return list(self._pool.map(one, mutants))


def run_named(trees: Trees, words: Sequence[str]) -> bool:
    """Judge the named mutants with all words in their names; return whether each was caught."""
    chosen = [mutant for mutant in (*CAPTURE, *EDGES) if all(word in mutant.name for word in words)]

    def verdict(mutant: named.Named, tree: Tree) -> named.Verdict:
        found = named.judge(mutant, tree)
        caught = (found.caught or "SURVIVED").removeprefix("tests/")
        print(f"{mutant.name:<66} {found.seconds:4.0f} s  {caught}", flush=True)
        return found

    caught = sum(found.caught is not None for found in trees.each(verdict, chosen))
    print(f"named: {caught} of {len(chosen)} caught\n", flush=True)
    return caught == len(chosen)


def run_package(trees: Trees, package: str, seed: int, count: int, tests: list[judge.Test]) -> bool:
    """Draw mutants of a package and judge them; print the survivors; return whether enough were caught."""
    drawn = draw(package, seed, count)
    meaningful = [mutant for mutant in drawn if mutant.key not in HARMLESS]

    def verdict(mutant: Drawn, tree: Tree) -> judge.Verdict:
        found = judge.judge(mutant, tree, tests)
        where = f"{mutant.file}:{mutant.change.line}"
        if found.caught:
            print(f"  caught {found.seconds:4.0f} s  {where:<36} {found.caught.removeprefix('tests/')}", flush=True)
        else:
            print(f"  SURVIVED {found.tests} tests, {found.seconds:.0f} s: {where}\n{mutant.diff}", flush=True)
            print(f"    key: {mutant.key}", flush=True)
        return found

    print(f"{package}: seed {seed}", flush=True)
    caught = sum(found.caught is not None for found in trees.each(verdict, meaningful))
    rate = caught / len(meaningful) if meaningful else 1.0
    print(
        f"{package}: {len(drawn)} drawn, {len(drawn) - len(meaningful)} harmless, {caught} caught,"
        f" {len(meaningful) - caught} survived: {rate:.1%}\n",
        flush=True,
    )
    return rate >= WANTED


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
    options = parser.parse_args()
    packages = [word for word in options.words if word in PACKAGES]
    words = [word for word in options.words if word not in PACKAGES]
    os.nice(NICENESS)
    began, passed = time.monotonic(), True
    with ExitStack() as stack:
        trees = Trees(stack, options.jobs)
        if words or not packages:
            passed &= run_named(trees, words)
        if packages or not words:
            name_unused(PACKAGES)
            tests = measured()
            for package in packages or PACKAGES:
                passed &= run_package(trees, package, options.seed, options.count, tests)
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
