"""Completion of ids, tools, machines and configuration keys."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.cli import main
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness

OTHER = "6a000000-0000-4000-8000-000000000002"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        made.write(CLAUDE, claude(SESSION, 1))
        made.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 30))
        made.scan()
        yield made


def values(harness: DaemonHarness, kind: str, capsys: pytest.CaptureFixture[str], *, state: str = "") -> list[str]:
    environ = {"HOME": harness.home, "SESSIOND_STATE_DIR": state or harness.state, "SESSIOND_CONFIG": os.devnull}
    assert main(["completions", "--values", kind], environ) == 0
    return capsys.readouterr().out.splitlines()


def test_values_come_from_the_spool(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids as `ls` shows them, the newest first. Without a spool there are no values but the keys."""
    assert values(harness, "ids", capsys) == [OTHER[:8], SESSION[:8]]
    assert values(harness, "tools", capsys) == ["claude-code"]
    assert values(harness, "machines", capsys) == ["testbox"]
    keys = values(harness, "keys", capsys)
    assert {"endpoint.url", "exclude", "sources.claude-code.enabled"} <= set(keys)
    assert all(values(harness, kind, capsys, state="/nowhere") == [] for kind in ("ids", "tools", "machines"))
    assert set(values(harness, "keys", capsys, state="/nowhere")) == {
        key for key in keys if not key.startswith("sources.")
    }


def test_what_a_shell_would_expand_is_not_offered(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """A machine id is any text; in bash, `$(command)` in a value would run the command."""
    harness.machine_id = "$(touch owned)"
    harness.close()
    harness.open()
    harness.scan()
    assert harness.spool.stats.machine_names() == ["$(touch owned)"]
    assert values(harness, "machines", capsys) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sessiond", "show", "5f"], ["5f1d7c1e"]),
        (["sessiond", "queue", "drop", "6"], ["6a000000"]),
        (["sessiond", "ls", "--tool", "cl"], ["claude-code"]),
        (["sessiond", "ls", "--machine", ""], ["testbox"]),
        (["sessiond", "config", "set", "endpoint.u"], ["endpoint.url"]),
    ],
)
def test_bash_completes_values(
    words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The script asks `sessiond completions`; here a function of that name answers."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not on this machine")
    assert main(["completions", "bash"]) == 0
    script = tmp_path / "script"
    answers = {"ids": "5f1d7c1e 6a000000", "tools": "claude-code codex", "machines": "testbox", "keys": "endpoint.url"}
    cases = "".join(f"{kind}) printf '%s\\n' {text};; " for kind, text in answers.items())
    quoted = " ".join(f"'{word}'" for word in words)
    script.write_text(
        f"{capsys.readouterr().out}\nsessiond() {{ case $3 in {cases} esac; }}\n"
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _shtab_sessiond; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    )
    done = subprocess.run([bash, "--norc", str(script)], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (expected, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_ask_for_the_same_values(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completions", shell]) == 0
    script = capsys.readouterr().out
    assert all(f"sessiond completions --values {kind}" in script for kind in ("ids", "tools", "machines", "keys"))


def test_a_shell_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completions"]) == 2
    assert capsys.readouterr().err == "sessiond: which shell?\n  sessiond completions bash|zsh|fish\n"
