"""A restored sample is the session that it was: the daemon of the second machine makes no copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessiond.cli import main
from sessiond.sources.recipes import find_recipe
from support.harness import DaemonHarness, daemon_harness
from support.sample_tree import NAMES, build
from support.two_machines import environment, second_machine

IMPORTED = ("opencode", "kilo-code")
"""Tools that import a session by a command of their own."""
REFUSED = {
    "claude-code/2.1-history",
    "cline/extension-3.8",
    "codex/0.1-typescript",
    "codex/0.169-history",
    "gemini-cli/0.25-document",
    "kimi/code-import-2",
    "openhands/v0",
    "qwen-code/0.0-gemini-style",
    "qwen-code/0.24-runtime-dir",  # found with a variable of the tool only
}
"""Samples with no session that can be restored."""
SAMPLES = [name for name in NAMES if find_recipe(name.split("/")[0]) and not name.startswith(IMPORTED)]


def stored(harness: DaemonHarness) -> dict[tuple[str, str], dict[str, Any]]:
    """Map the machine and the id of each session at the endpoint to the session."""
    found = harness.get("/v1/sessions", limit=500).json()["sessions"]
    return {(each["record"]["machine_id"], each["record"]["id"]): each for each in found}


def files(directory: str) -> dict[str, int]:
    """Map all files to their size."""
    return {str(each): each.stat().st_size for each in Path(directory).rglob("*") if each.is_file()}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_restored_sample_is_no_copy(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was written on the second machine, so it has nothing to push. Restored again, all is there already."""
    with daemon_harness(tmp_path / "first") as first, second_machine(str(tmp_path / "second"), first) as second:
        build(name, first.home)
        first.settle()
        before = stored(first)
        tool, project = name.split("/")[0], f"{second.home}/src/engine"
        ids = [identity for (_, identity), each in before.items() if each["record"]["tool"] == tool]
        codes = [main(["restore", each, "--directory", project], environment(second)) for each in ids]
        assert (0 in codes) is (name not in REFUSED), capsys.readouterr().err
        second.settle()
        assert stored(first) == before
        written = files(second.home)
        assert [main(["restore", each, "--directory", project], environment(second)) for each in ids] == codes
        assert files(second.home) == written
