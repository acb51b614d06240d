"""Runs tests, each time in a fork of a process that has collected them all.

To import the program, compile its rules and collect the tests takes longer than most tests. It is done once per
process: `python -m mutants.collected DIRECTORY pytest-arguments...` collects the tests and then reads one task a line
from standard input, a JSON object. It either judges a mutant or measures what the tests of a file reach:

- `file`, `original`, `mutated`: the path of a source file and its two texts; the file has the mutated one;
  `tests`: node ids and the seconds that each takes, in the order in which they run;
  `result`: a file that gets the node id of the last test that ran.
- `measure`: the test file; `config`: the file with the settings of coverage; `context`: a file that gets the node id
  of the test that runs, for the processes that it starts; `results`: a file that gets one JSON line for each test.

The answer is a line with an `Outcome`. What tests print goes to the file `printed` in DIRECTORY.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, TextIO

import coverage
import pytest

from mutants.functions import Functions, Lines, Replacement, live_functions, replace_functions
from mutants.worker import adopt_orphans, wait_for

FAILED = pytest.StashKey[bool]()
PATIENCE = 1800
"""Seconds that the tests of a file may take while they are measured."""


class Outcome(IntEnum):
    """The outcome of a task, which is also the exit code of its process."""

    PASSED = 0
    FAILED = 1
    ENDLESS = 2
    UNSUITABLE = 3
    """A process that has imported the module can't judge the mutant."""
    ENDED = 4
    """A test ended the process."""


def cpu_limit(seconds: float) -> float:
    """Return the CPU time after which a test is endless that takes `seconds` without a mutant."""
    return 3 + 10 * seconds


def time_limit(seconds: float) -> float:
    """Return the time after which it is endless if it only waits."""
    return (30 + 20 * seconds) * crowd(os.getloadavg()[0], os.cpu_count() or 1)


def total_limit(seconds: float) -> float:
    """Return the time after which several tests are endless that take `seconds` together."""
    return (60 + 20 * seconds) * crowd(os.getloadavg()[0], os.cpu_count() or 1)


def crowd(load: float, cores: int) -> float:
    """Return how many times longer than on a machine with nothing else to do a process takes, at this load."""
    return max(1.0, load / cores)


def quiet_seconds(cpu: float, elapsed: float, load: float, cores: int) -> float:
    """Return about what a test takes on a machine with nothing else to do: its CPU time, and what it waits besides."""
    return max(cpu, elapsed / crowd(load, cores))


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


class Forks:
    """A pytest plugin that runs tasks instead of the collected tests."""

    def __init__(self, directory: str, tasks: TextIO, answers: TextIO) -> None:
        self.program = os.path.join(directory, "tree", "daemon", "")
        self.tasks = tasks
        self.answers = answers
        self.coverage = coverage.Coverage(data_file=None, include=[self.program + "*"], config_file=False)
        self.coverage.start()

    def _end_coverage(self) -> dict[str, frozenset[int]]:
        """Return the lines that ran while the tests were collected."""
        self.coverage.stop()
        found = self.coverage.get_data()
        return {file: frozenset(found.lines(file) or ()) for file in found.measured_files()}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run tasks until standard input ends."""
        from support import rules_cache

        rules_cache._compiled()  # for all forks
        functions = live_functions(self.program)
        ran = self._end_coverage()
        gc.collect()
        gc.freeze()
        for line in self.tasks:
            task = json.loads(line)
            child = os.fork()
            if child == 0:
                if "measure" in task:
                    _end_with(lambda: measure(task, session.items))  # noqa: B023
                _end_with(lambda: judge(task, session.items, functions, ran))  # noqa: B023
            code = wait_for(child, PATIENCE if "measure" in task else total_limit(sum(task["tests"].values())))
            self.answers.write(json.dumps(_outcome(code)) + "\n")
            self.answers.flush()
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[Any]:
        """Store a failure of any phase."""
        report = yield
        if report.failed:
            item.stash[FAILED] = True
        return report


def _outcome(code: int | None) -> Outcome:
    if code is None or code == -signal.SIGPROF:
        return Outcome.ENDLESS
    return Outcome(code) if code in tuple(Outcome) else Outcome.ENDED


def _end_with(run: Callable[[], Outcome]) -> None:
    """End this process with the outcome of a task."""
    code = Outcome.ENDED
    try:
        os.setsid()
        code = run()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def judge(task: dict[str, Any], items: list[pytest.Item], functions: Functions, ran: Lines) -> Outcome:
    """Run tests against a mutant until one fails."""
    replacement = replace_functions(functions, ran, task["file"], task["original"], task["mutated"])
    if replacement is Replacement.IMPOSSIBLE:
        return Outcome.UNSUITABLE
    by_name = {item.nodeid: item for item in items}
    selected = [(by_name[name], seconds) for name, seconds in task["tests"].items() if name in by_name]
    if not selected:
        return Outcome.UNSUITABLE
    following = [*(item for item, _ in selected[1:]), None]
    for (item, seconds), next_item in zip(selected, following, strict=True):
        Path(task["result"]).write_text(item.nodeid)
        with _limited(seconds):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=next_item)
        if item.stash.get(FAILED, False):
            return Outcome.FAILED
    return Outcome.PASSED if replacement is Replacement.DONE else Outcome.UNSUITABLE


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """End the process if a test works or waits for too long: a mutant may have made it endless."""
    timer = threading.Timer(time_limit(seconds), os._exit, [Outcome.ENDLESS])
    timer.daemon = True
    timer.start()
    signal.setitimer(signal.ITIMER_PROF, cpu_limit(seconds))  # nothing handles SIGPROF, so it ends the process
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        timer.cancel()


def measure(task: dict[str, Any], items: list[pytest.Item]) -> Outcome:
    """Run the tests of a file under coverage, each in its own context."""
    selected = [item for item in items if item.nodeid.startswith(task["measure"] + "::")]
    following = [*selected[1:], None]
    measuring = coverage.Coverage(config_file=task["config"], data_suffix=True)
    measuring.start()
    with open(task["results"], "w") as results:
        for item, next_item in zip(selected, following, strict=bool(selected)):
            Path(task["context"]).write_text(item.nodeid)
            measuring.switch_context(item.nodeid)
            began, spent = time.monotonic(), _cpu_seconds()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=next_item)
            elapsed, cpu, passed = time.monotonic() - began, _cpu_seconds() - spent, not item.stash.get(FAILED, False)
            seconds = quiet_seconds(cpu, elapsed, os.getloadavg()[0], os.cpu_count() or 1)
            results.write(json.dumps({"test": item.nodeid, "seconds": round(seconds, 3), "passed": passed}) + "\n")
    measuring.stop()
    measuring.save()
    return Outcome.PASSED


def main(directory: str, *arguments: str) -> int:
    """Collect the tests and run tasks."""
    adopt_orphans()
    tasks, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    printed = os.open(os.path.join(directory, "printed"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for source, target in ((nothing, 0), (printed, 1), (printed, 2)):
        os.dup2(source, target)
    return pytest.main(list(arguments), plugins=[Forks(directory, tasks, answers)])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
