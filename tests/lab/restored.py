"""What `make lab-restore` has shown: restored.toml, written by restore.sh when a run passes, read for docs/sources.md.

`python -m lab.restored TOOL VERSION SCENARIO passed` (with daemon/ and tests/ on the path) adds a scenario that passed
today, and `failed` removes one that did not.
"""

from __future__ import annotations

import datetime
import sys
import tomllib
from pathlib import Path

import msgspec
import tomli_w

FILE = Path(__file__).with_name("restored.toml")
HEAD = "# Written by `make lab-restore`: a scenario is added when it has passed. docs/sources.md shows it.\n\n"

PROGRAMS = {"kimi-cli": "kimi"}
"""Programs that store sessions of a tool, besides the one that is named as the tool is."""


class Restored(msgspec.Struct, frozen=True):
    """The scenarios that passed with one version of a tool, and when the last one did."""

    version: str
    date: datetime.date
    scenarios: list[str]


def restored(file: Path = FILE) -> dict[str, Restored]:
    """Map each tool to what has passed."""
    return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), dict[str, Restored])


def add(tool: str, version: str, scenario: str, today: datetime.date, file: Path = FILE) -> None:
    """Store that a scenario has passed. What an earlier version has shown is forgotten: it may not hold any more."""
    every = restored(file)
    known = every.get(tool)
    earlier = known.scenarios if known is not None and known.version == version else []
    every[tool] = Restored(version=version, date=today, scenarios=sorted({*earlier, scenario}))
    _write(every, file)


def remove(tool: str, version: str, scenario: str, file: Path = FILE) -> None:
    """Store that a scenario has failed: what it has shown earlier does not hold any more."""
    every = restored(file)
    known = every.get(tool)
    if known is None or known.version != version or scenario not in known.scenarios:
        return
    scenarios = [name for name in known.scenarios if name != scenario]
    every[tool] = msgspec.structs.replace(known, scenarios=scenarios)
    _write({name: each for name, each in every.items() if each.scenarios}, file)


def _write(every: dict[str, Restored], file: Path) -> None:
    rows = {name: msgspec.structs.asdict(each) for name, each in sorted(every.items())}
    file.write_text(HEAD + tomli_w.dumps(rows), encoding="utf-8")


def main(tool: str, version: str, scenario: str, outcome: str) -> None:
    """Store the outcome of a scenario. Raises: ValueError, the outcome is neither "passed" nor "failed"."""
    match outcome:
        case "passed":
            add(tool, version, scenario, datetime.datetime.now(datetime.UTC).date())
        case "failed":
            remove(tool, version, scenario)
        case _:
            raise ValueError(outcome)


if __name__ == "__main__":
    main(*sys.argv[1:])
