"""The real tools write, offline, while the daemon watches: `make lab`.

Each script here installs a CLI (npm or PyPI) into a cache, runs scenarios against a stub model server with
one HOME, and ends. Then everything that the tool wrote must be at the endpoint, byte for byte, with the record
that a scan from scratch gives and that runs.py expects, or be named in the source's gaps. No record may be of an
unknown type, and nothing of the tool's may have been changed by us.
What held is written to results.toml, which docs/sources.md shows.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from pathlib import Path

import pytest

from lab.observe import observe
from lab.results import Result, keep, scenarios
from lab.runs import RUNS, Run

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.mark.lab
@pytest.mark.timeout(4000)  # longer than the script's own bound: it installs a tool and waits for it
@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.tool}-{run.version}")
def test_what_a_real_tool_writes_arrives(run: Run, tmp_path: Path) -> None:
    """Each session is at the endpoint, right in every field, and the tool's files are as it left them."""
    seen = observe(run, tmp_path)
    mine = seen.sessions(run.tool)
    records = [{**session, "contents": None} for session in mine]
    (tmp_path / "sessions.json").write_text(json.dumps(records, indent=1))
    assert not seen.changed
    assert seen.found == seen.expected
    for session in mine:
        _check(session, run, seen.repository)
    assert not seen.unknown
    assert not seen.files.missing
    counts = [session["record"]["message_count"] for session in mine]
    missing = sum(run.counts) - sum(counts)
    assert len(counts) == len(run.counts), seen.output[-3000:]
    assert tuple(sorted(counts)) == run.counts or 0 < missing <= run.unwaited
    ran, refused = scenarios(seen.output)
    keep(
        Result(
            tool=run.tool,
            version=run.version,
            date=datetime.datetime.now(datetime.UTC).date(),
            scenarios=ran,
            refused=refused,
            sessions=len(counts),
            messages=sum(counts),
            files=len(seen.files.captured),
        )
    )


def _check(session: dict, run: Run, repository: str) -> None:
    """Compare a record with what the script did, and a transcript of lines with its file."""
    record = session["record"]
    assert record["working_directory"] == (repository if run.placed else ""), record
    assert record["git_branch"] == run.branch, record
    assert record["tool_version"] == (run.version if run.versioned else None), record
    answered = record["message_count"] > 1 and run.models
    assert record["model"] in run.models or (record["model"] is None and not answered), record
    path = record["source_path"]
    named = UUID.findall(os.path.basename(path))
    assert not named or record["id"] in named, record
    if path.endswith(".jsonl") and os.path.exists(path):
        lengths = [len(content) for content in session["contents"].values()]
        assert os.path.getsize(path) in lengths, (record, lengths)
