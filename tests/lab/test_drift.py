"""How the lab compares what two versions of a tool write."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from lab import drift
from lab.drift import Shape, differences, field_paths, newer_versions, path_pattern, report
from lab.runs import Run

RUN = Run(tool="invented", script="none.sh", version="1.9.0", package="npm:invented", counts=(2,), models=frozenset())
SHAPE = Shape(sessions=2, messages=4, files=frozenset(["s/*.jsonl"]), fields=frozenset(["user.text"]))


def test_newer_versions_are_ordered_by_number_and_pre_releases_are_left_out() -> None:
    published = ["1.10.0", "1.9.0", "1.8.9", "2.0.0-beta.1", "1.9.1", "2.0.0rc1", "1.11"]
    assert newer_versions("1.9.0", published) == ["1.9.1", "1.10.0", "1.11"]
    assert newer_versions("2.0.0", published) == []


def test_ids_numbers_and_dates_of_paths_do_not_differ() -> None:
    first = ".t/2026/11/29/run-0b5d3c1e-0a86-4f3c-9f0e-2f2b7c1d4e55.jsonl"
    second = ".t/2027/01/02/run-7f1d3c1e-1a86-4f3c-9f0e-2f2b7c1d4e66.jsonl"
    assert path_pattern(first) == path_pattern(second) == ".t/*/*/*/run-*.jsonl"
    assert path_pattern(".t/notes.yaml") != path_pattern(".t/notes.txt")


def test_the_repository_in_a_path_does_not_differ() -> None:
    assert path_pattern(".t/--tmp-run-cip_ax-repo--/one.txt", "/tmp/run.cip_ax/repo") == ".t/--*--/one.txt"
    assert path_pattern(".t/-tmp-run-cip-ax-repo/one.txt", "/tmp/run.cip_ax/repo") == ".t/-*/one.txt"


def test_fields_are_named_with_the_types_of_their_records() -> None:
    lines = [{"type": "message", "message": {"role": "user", "content": [{"text": "x"}]}}, {"kind": 1}]
    stream = b"\n".join(json.dumps(it).encode() for it in lines) + b"\nno record {"
    found = field_paths([stream, b"\x89PNG"])
    assert "message/user.message.content[].text" in found
    assert "?.kind" in found
    assert not any("PNG" in name for name in found)


def test_equal_shapes_have_no_differences() -> None:
    assert list(differences(SHAPE, SHAPE)) == []


def test_what_would_be_lost_comes_first() -> None:
    newer = replace(
        SHAPE,
        messages=3,
        files=frozenset(["s/*.jsonl", "s/*.bin"]),
        fields=frozenset(["user.content"]),
        unknown=frozenset(["thought"]),
        missing=frozenset(["s/*.bin"]),
    )
    assert list(differences(SHAPE, newer)) == [
        "unknown record type: thought",
        "file in no stream: s/*.bin",
        "messages: 4 before, 3 now",
        "new file: s/*.bin",
        "new field: user.content",
        "field no longer written: user.text",
    ]


def reported(monkeypatch: pytest.MonkeyPatch, published: list[str], newer: Shape | Exception) -> list[tuple[str, bool]]:
    def observe_shape(run: Run, version: str) -> Shape:
        if version == RUN.version:
            return SHAPE
        if isinstance(newer, Exception):
            raise newer
        return newer

    monkeypatch.setattr(drift, "published_versions", lambda package: published)
    monkeypatch.setattr(drift, "observe_shape", observe_shape)
    return list(report([RUN]))


def test_a_tool_without_a_newer_version_needs_no_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reported(monkeypatch, ["1.9.0"], SHAPE) == [("- invented 1.9.0: nothing newer is published", False)]


def test_an_untested_version_needs_attention_even_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reported(monkeypatch, ["1.9.0", "2.0.0"], SHAPE) == [
        ("- invented 1.9.0: newer are 2.0.0", True),
        ("  - 2.0.0: no difference in the cheap scenarios", True),
    ]


def test_a_version_that_does_not_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    output = (
        "npm error notarget No matching version found for invented-linux@2.0.0.\n[invented] done; captures in out\n"
    )
    found = reported(monkeypatch, ["2.0.0"], AssertionError(output))
    reason = "npm error notarget No matching version found for invented-linux@2.0.0."
    assert found[-1] == (f"  - 2.0.0 can't be run: {reason}", True)
    assert reported(monkeypatch, ["2.0.0"], AssertionError("one\ntwo"))[-1][0] == "  - 2.0.0 can't be run: two"


def test_the_next_older_version_is_run_if_the_newest_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    def observe_shape(run: Run, version: str) -> Shape:
        if version == "2.1.0":
            raise AssertionError("not installed")
        return SHAPE if version == RUN.version else replace(SHAPE, sessions=3)

    monkeypatch.setattr(drift, "published_versions", lambda package: ["2.0.0", "2.1.0"])
    monkeypatch.setattr(drift, "observe_shape", observe_shape)
    assert [line for line, _ in report([RUN])][1:] == [
        "  - 2.1.0 can't be run: not installed",
        "  - 2.0.0: sessions: 2 before, 3 now",
    ]


def test_a_tested_version_that_no_longer_runs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newer one is not blamed for it, and no other one is run."""

    def observe_shape(run: Run, version: str) -> Shape:
        if version == RUN.version:
            raise AssertionError("not found: a dependency")
        return SHAPE

    monkeypatch.setattr(drift, "published_versions", lambda package: ["2.0.0", "2.1.0"])
    monkeypatch.setattr(drift, "observe_shape", observe_shape)
    assert [line for line, _ in report([RUN])][1:] == [
        "  - 2.1.0 runs, but 1.9.0 can't any more: not found: a dependency"
    ]


def test_a_registry_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(package: str) -> list[str]:
        raise subprocess.CalledProcessError(1, ["npm"])

    monkeypatch.setattr(drift, "published_versions", fail)
    ((line, needs_attention),) = report([RUN])
    assert needs_attention
    assert "does not list npm:invented" in line


def test_the_exit_code_says_whether_anyone_has_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "RUNS", (RUN,))
    monkeypatch.setattr(drift, "published_versions", lambda package: ["1.9.0"])
    assert drift.main([]) == 0
    monkeypatch.setattr(drift, "published_versions", lambda package: ["2.0.0"])
    monkeypatch.setattr(drift, "observe_shape", lambda run, version: SHAPE)
    assert drift.main([]) == 1
    assert drift.main(["another"]) == 0


def failing(path: Path, script: str) -> None:
    """Write a program that fails, after it has done something."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("call", "left"),
    [("npm_inst $LAB/tool/pkg tool@2.0.0", "tool/pkg/node_modules"), ("uv_inst $LAB/venv python3 tool==2.0.0", "venv")],
)
def test_a_version_that_cannot_be_installed_ends_the_script(tmp_path: Path, call: str, left: str) -> None:
    """It leaves no half of an installation, which the next run would take for a whole one."""
    failing(tmp_path / "bin" / "npm", "mkdir node_modules; echo npm error notarget; exit 1")
    failing(tmp_path / ".uv" / "bin" / "uv", 'mkdir -p $LAB/venv/bin; [ "$1" = venv ]')
    environ = {"LAB": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
    script = f". {Path(__file__).with_name('lib.sh')}; {call}; echo went on"
    ended = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1].startswith("can't install tool")
    assert not (tmp_path / left).exists()


def test_the_workflow_looks_for_newer_versions_every_week() -> None:
    """It runs what `make lab-drift` runs, on a schedule, and fails if anybody has to look."""
    workflow = (Path(__file__).parents[2] / ".github" / "workflows" / "lab-drift.yml").read_text()
    assert re.search(r"^  schedule:\n    - cron: \"\d+ \d+ \* \* \d\"", workflow, re.MULTILINE)
    assert "set -o pipefail\n" in workflow and "make --silent lab-drift |" in workflow
