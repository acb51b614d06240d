"""Two machines with one endpoint: a session of the first one is restored on the second one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sessiond.cli import main
from support.harness import CLAUDE, SESSION, TOKEN, Household, claude


@contextmanager
def second_machine(base: str, first: Household) -> Iterator[Household]:
    """Open a second machine, which has an empty project: src/engine in its home."""
    house = Household(base, first.endpoint)
    house.close()
    house.machine_id = "second"
    house.open()
    os.makedirs(f"{house.home}/src/engine")
    yield house
    house.client.close()
    house.close()


def environment(house: Household, machine: str = "second") -> dict[str, str]:
    """Return the variables with which a command acts on a machine."""
    config = f"{house.home}/config.toml"
    with open(config, "a"):  # not /dev/null: settings are read from a directory beside the file too
        pass
    return {
        "HOME": house.home,
        "SESSIOND_STATE_DIR": house.state,
        "SESSIOND_CONFIG": config,
        "SESSIOND_MACHINE_ID": machine,
        "SESSIOND_ENDPOINT__URL": house.endpoint.url,
        "SESSIOND_TOKEN": TOKEN,
    }


def begin(first: Household) -> None:
    """Capture and push a session of two messages."""
    first.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2, role="assistant"))
    first.settle()


def restore(house: Household, *arguments: str, machine: str = "second") -> int:
    """Restore it into the project; return the exit code."""
    return main(
        ["restore", SESSION, "--directory", f"{house.home}/src/engine", *arguments], environment(house, machine)
    )


def restored_path(house: Household) -> str:
    """Return where its transcript is restored to."""
    project = f"{house.home}/src/engine"
    folder = "".join(each if each.isalnum() and each.isascii() else "-" for each in project)
    return f"{house.home}/.claude/projects/{folder}/{SESSION}.jsonl"


def counts(house: Household) -> dict[str, tuple[int, str]]:
    """Map each machine that has the session at the endpoint to what it counts, and where."""
    found = house.get("/v1/sessions", limit=500).json()["sessions"]
    return {
        each["record"]["machine_id"]: (each["record"]["message_count"], each["record"]["working_directory"])
        for each in found
    }
