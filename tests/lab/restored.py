"""What `make lab-restore` has shown: restored.toml, written by restore.sh when a run passes, read for docs/sources.md.

`python -m lab.restored TOOL VERSION SCENARIO` (with daemon/ and tests/ on the path) adds a scenario that passed today.
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
    rows = {name: msgspec.structs.asdict(each) for name, each in sorted(every.items())}
    file.write_text(HEAD + tomli_w.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    add(sys.argv[1], sys.argv[2], sys.argv[3], datetime.datetime.now(datetime.UTC).date())
