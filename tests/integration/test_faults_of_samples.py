"""Faults that were found in the files of one tool, in those of others: no session, message or name is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import engine
from sessiond.ingest.pipeline import decode
from sessiond.session import Fold
from sessiond.sources.base import Kind
from sessiond.sources.qwen_code import QwenCode
from support.harness import NOW_MS, daemon_harness, encode
from support.sample_tree import build

Change = Callable[[bytes], bytes]
Found = dict[str, tuple[int, str | None]]
"""The messages and the title of each session."""


def with_mark(content: bytes) -> bytes:
    """Write a file as editors on Windows do."""
    return b"\xef\xbb\xbf" + content


def in_utf_16(content: bytes) -> bytes:
    """Write a file as redirected output of PowerShell is."""
    return content.decode("utf-8", "surrogatepass").encode("utf-16")


def with_records_on_one_line(content: bytes) -> bytes:
    """Remove every second newline, as a crash does."""
    lines = content.splitlines(keepends=True)
    return (
        b"".join(line.rstrip(b"\n") if number % 2 == 0 else line for number, line in enumerate(lines[:-1])) + lines[-1]
    )


def after_nul(content: bytes) -> bytes:
    """Write NUL bytes before each record, as a power cut does."""
    return b"".join(b"\0" * 40 + line for line in content.splitlines(keepends=True))


def capture(name: str, base: Path, kind: Kind, change: Change) -> Found:
    """Capture a sample whose files of a kind were changed."""
    build(name, base / "home")
    with daemon_harness(base) as harness:
        paths = [Path(each.path) for each in engine.locations(harness.home) if each.unit.kind is kind]
        changed = [path for path in paths if path.is_file()]
        assert changed
        for path in changed:
            path.write_bytes(change(path.read_bytes()))
        harness.settle()
        return {
            str(state.uuid): (state.record.message_count, state.title)
            for state in harness.spool.catalog.sessions()
            if state.record is not None
        }


@pytest.mark.parametrize("change", [with_mark, in_utf_16])
@pytest.mark.parametrize(
    "name", ["cline/4.0-migrated", "cursor/cli-2026", "grok-build/1.0-fork", "kilo-code/5.0-tasks", "roo-code/3.52"]
)
def test_a_document_in_another_encoding_keeps_its_session(name: str, change: Change, tmp_path: Path) -> None:
    whole = capture(name, tmp_path / "a", Kind.DOCUMENT, bytes)
    assert whole
    assert capture(name, tmp_path / "b", Kind.DOCUMENT, change) == whole


@pytest.mark.parametrize("change", [with_records_on_one_line, after_nul])
@pytest.mark.parametrize(
    "name", ["codebuddy/2.163-fork", "copilot-cli/0.0.341-history", "cursor/cli-2026", "kimi/cli-1.49"]
)
def test_records_on_one_line_keep_the_name_of_their_session(name: str, change: Change, tmp_path: Path) -> None:
    """The first prompt is among the records that are recovered."""
    whole = capture(name, tmp_path / "a", Kind.LINES, bytes)
    assert any(title for _, title in whole.values())
    assert capture(name, tmp_path / "b", Kind.LINES, change) == whole


def test_a_recovered_record_names_its_side_files_and_raises_no_false_alarm() -> None:
    """As one that has its own line: a side file that no record mentions would belong to no session."""
    said = {"uuid": "u1", "sessionId": "s", "type": "tool_result", "output": "see /tmp/run_shell_command_1.output"}
    other = {"uuid": "u2", "sessionId": "s", "type": "made-up", "snapshot": {"a": 1}}
    fold, mentions = Fold(), set[str]()
    decode(QwenCode(), encode(said).strip() + encode(other), fold, NOW_MS, mentions)
    assert (mentions, fold.unknown, fold.damaged) == ({"run_shell_command_1.output"}, {}, 0)
