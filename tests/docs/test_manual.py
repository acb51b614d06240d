"""The manual page and the completions agree with the parsers."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from sessiond.cli import COMMANDS, main

DOCS = Path(__file__).parents[2] / "docs"


def test_the_manual_page_is_as_the_parsers_are() -> None:
    """To update it: python docs/make_manual.py > docs/sessiond.1"""
    spec = importlib.util.spec_from_file_location("make_manual", DOCS / "make_manual.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert (DOCS / "sessiond.1").read_text(encoding="utf-8") == "\n".join(made.manual()) + "\n"


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not on this machine")
def test_man_finds_nothing_wrong_with_it() -> None:
    words = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(DOCS / "sessiond.1")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={"MANROFFSEQ": "", "PATH": "/usr/bin:/bin"}
    )
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_know_every_command_and_are_a_script_of_their_shell(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["completions", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    assert "--token-file" in script or "token-file" in script
    program = shutil.which(shell)
    if program is not None:
        (tmp_path / "script").write_text(script)
        done = subprocess.run([program, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
