"""The results of the lab: results.toml, written by the runs themselves, read for docs/sources.md."""

from __future__ import annotations

import datetime
import re
import tomllib
from pathlib import Path

import msgspec
import tomli_w

PLACE = Path(__file__).with_name("results.toml")
# What scripts print of a scenario: "--- tool", "[pi] tool rc=0", "[pi] kill9 killed (-9)", "[pi] interactive typed".
SCENARIO = re.compile(r"^(?:--- (\w+)$|\[[\w-]+\] (\w+) (rc=0|rc=\d+|killed|typed)\b)", re.MULTILINE)
NAMES = {"kill9": "killed", "after": "after the kill"}
LISTINGS = {"list", "ls"}
TIMED_OUT = {"rc=124", "rc=137"}


class Result(msgspec.Struct, frozen=True):
    """A successful run of one version of a tool."""

    tool: str
    version: str
    date: datetime.date
    scenarios: str
    """In the order in which they ran."""
    refused: str
    """Scenarios that the tool ended with an error (it wants its server, or has no such thing) or not in time."""
    sessions: int
    messages: int
    files: int | None = None
    """How many of its files are captured; None: from before it was checked."""


def scenarios(log: str) -> tuple[str, str]:
    """Read from a script's output which scenarios ran, and which the tool refused."""
    ran: dict[str, bool] = {}
    for kept, name, end in SCENARIO.findall(log):
        if (kept or name) not in LISTINGS:
            shown = NAMES.get(kept or name, kept or name)
            shown += " (timed out)" if end in TIMED_OUT else ""
            ran[shown] = not end.startswith("rc=") or end == "rc=0"
    return tuple(", ".join(name for name, fine in ran.items() if fine is wanted) for wanted in (True, False))


def results() -> list[Result]:
    """Read all results, ordered by tool; newest version first."""
    if not PLACE.exists():
        return []
    return msgspec.convert(tomllib.loads(PLACE.read_text(encoding="utf-8"))["run"], list[Result])


def keep(result: Result) -> None:
    """Write a result, replacing an earlier one of the same tool and version."""
    others = [it for it in results() if (it.tool, it.version) != (result.tool, result.version)]
    ordered = sorted(
        [*others, result], key=lambda it: (it.tool, [-int(part) for part in re.findall(r"\d+", it.version)])
    )
    rows = [{name: it for name, it in msgspec.structs.asdict(row).items() if it is not None} for row in ordered]
    head = "# Written by `make lab`: a row when everything held. docs/sources.md shows it.\n\n"
    PLACE.write_text(head + tomli_w.dumps({"run": rows}), encoding="utf-8")
