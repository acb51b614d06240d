"""`sessiond demo`: a real session on the whole way, and nothing left of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sessiond.cli import main


def test_it_shows_each_step_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert main(["demo"], {"HOME": str(tmp_path / "home")}) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert max(map(len, lines)) <= 80
    steps = [line[9:].split()[0] for line in lines if re.match(r" *[\d.]+ s  ", line)]
    wanted = ["endpoint:", "daemon:", "sample:", "captured:", "acknowledged:", "one", "read", "done:"]
    assert steps == wanted
    assert "identical to what was written" in captured.out
    assert captured.err == ""
    assert list(tmp_path.iterdir()) == []
