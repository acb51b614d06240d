"""Two machines with one endpoint: a session of the first one is restored on the second one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sessiond.cli import main
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude


@contextmanager
def second_machine(base: str, first: DaemonHarness) -> Iterator[DaemonHarness]:
    """Open a second machine, which has an empty project: src/engine in its home."""
    harness = DaemonHarness(base, first.endpoint, machine_id="second")
    os.makedirs(f"{harness.home}/src/engine")
    yield harness
    harness.client.close()
    harness.close()


def environment(harness: DaemonHarness, machine: str = "second") -> dict[str, str]:
    """Return the variables with which a command acts on a machine."""
    config = f"{harness.home}/config.toml"
    with open(config, "a"):  # not /dev/null: settings are read from a directory beside the file too
        pass
    return {
        "HOME": harness.home,
        "SESSIOND_STATE_DIR": harness.state,
        "SESSIOND_CONFIG": config,
        "SESSIOND_MACHINE_ID": machine,
        "SESSIOND_ENDPOINT__URL": harness.endpoint.url,
        "SESSIOND_TOKEN": TOKEN,
    }


def begin(first: DaemonHarness) -> None:
    """Capture and push a session of two messages."""
    first.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, role="assistant"))
    first.settle()


def restore(harness: DaemonHarness, *arguments: str, machine: str = "second") -> int:
    """Restore it into the project; return the exit code."""
    return main(
        ["restore", SESSION, "--directory", f"{harness.home}/src/engine", *arguments], environment(harness, machine)
    )


def restored_path(harness: DaemonHarness) -> str:
    """Return where its transcript is restored to."""
    project = f"{harness.home}/src/engine"
    folder = "".join(each if each.isalnum() and each.isascii() else "-" for each in project)
    return f"{harness.home}/.claude/projects/{folder}/{SESSION}.jsonl"


def counts(harness: DaemonHarness) -> dict[str, tuple[int, str]]:
    """Map each machine that has the session at the endpoint to what it counts, and where."""
    found = harness.get("/v1/sessions", limit=500).json()["sessions"]
    return {
        each["record"]["machine_id"]: (each["record"]["message_count"], each["record"]["working_directory"])
        for each in found
    }
