"""Compare the CPU of two checkouts, each run after one of the other: figures of different minutes differ too much.

    python bench/compare.py OTHER --rounds 5

OTHER is a checkout of another commit with its own .venv. Prints the least of all rounds for each of both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator

import corpus
import measure
from processes import ROOT, Daemon, Endpoint, clear
from rows import NOWHERE, _append, _use_codex
from run import default_directory

LINES = 10
"""Lines that are appended in a round."""


class Compared(Daemon):
    """A daemon of a checkout."""

    def __init__(self, checkout: str, home: str, state: str, url: str) -> None:
        self._checkout = checkout
        super().__init__(home, state, url)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment with the code of the checkout."""
        return super().environment | {"PYTHONPATH": os.path.join(self._checkout, "daemon")}

    def start(self) -> None:
        """Start it with the Python of its checkout."""
        python = os.path.join(self._checkout, ".venv", "bin", "python")
        with open(os.path.join(self.state, "stderr"), "ab") as said:
            self.process = subprocess.Popen(
                [python, "-m", "sessiond", "run"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("other", help="a checkout of another commit, with its own .venv")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    directory = os.path.join(default_directory(), f"compare-{os.getpid()}")
    home = corpus.ensure(default_directory(), "small")
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(options.rounds):
        for name, checkout in (("other", options.other), ("this", ROOT)):
            for row, value in measured(checkout, clear(os.path.join(directory, name)), home):
                found[row][name].append(value)
    clear(directory)
    os.rmdir(directory)
    print(f"{'at a load of ' + str(round(measure.load())):<44} {'other':>8} {'this':>8}")
    for row, values in found.items():
        other, this = min(values["other"]), min(values["this"])
        print(f"{row:<44} {other:8.2f} {this:8.2f} {this / other:6.2f}")


def measured(checkout: str, room: str, home: str) -> Iterator[tuple[str, float]]:
    """Measure each row once."""
    small, state = os.path.join(room, "home"), os.path.join(room, "state")
    _use_codex(small)
    yield "first start, rules compiled: CPU s", _until_captured(Compared(checkout, small, state, NOWHERE)).cpu
    for file in os.listdir(state):
        if file != "rules":
            subprocess.run(["rm", "-rf", os.path.join(state, file)], check=True)
    cold = _until_captured(Compared(checkout, home, state, NOWHERE))
    yield "59 MB in 200 sessions: CPU s", cold.cpu
    yield "the same: MB written", cold.written / 1e6
    again = Compared(checkout, home, state, NOWHERE)
    again.start()
    again.settle(60)
    yield "another start: CPU s", measure.cost(again.pid).cpu
    again.stop()
    yield "a line to the acknowledgement: CPU ms", _line(checkout, small, os.path.join(room, "lines"), state)


def _until_captured(daemon: Daemon) -> measure.Cost:
    daemon.start()
    measure.wait(daemon.captured, 300, 0.05)
    spent = measure.cost(daemon.pid)
    daemon.stop()
    return spent


def _line(checkout: str, home: str, room: str, state: str) -> float:
    """Return the milliseconds of CPU for a line, as the mean of some."""
    endpoint = Endpoint(os.path.join(clear(room), "endpoint"))
    own = os.path.join(room, "state")
    os.makedirs(own, mode=0o700)
    os.rename(os.path.join(state, "rules"), os.path.join(own, "rules"))
    daemon = Compared(checkout, home, own, f"http://127.0.0.1:{endpoint.port}")
    session = str(uuid.uuid4())
    path = os.path.join(home, corpus.claude_path(session, "/home/ada/work/project-00"))
    os.makedirs(os.path.dirname(path))
    daemon.start()
    for number in range(3):  # the rules are loaded with the first line after a start
        _append(path, session, f"warm {number}")
        measure.wait(lambda: daemon.captured() and daemon.pushed(), 60, 0.05)
        time.sleep(1)
    before = measure.cost(daemon.pid)
    for number in range(LINES):
        _append(path, session, f"marker {number}")
        time.sleep(0.6)
    spent = measure.cost(daemon.pid) - before
    daemon.stop()
    endpoint.stop()
    return 1000 * spent.cpu / LINES


if __name__ == "__main__":
    main()
