"""`sessiond redact` shows which places would be masked, and never the value."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from sessiond.cli import main
from sessiond.redact.examples import expand
from support.harness import claude, encode
from support.sample_tree import build, open_store

TOKEN = expand("ghp_<A36>", 1)
SESSION = "5f1d7c1e-0000-4000-8000-000000000001"


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), "SESSIOND_CONFIG": os.devnull, "SESSIOND_STATE_DIR": str(tmp_path / "state"), **more}


def test_scan_names_rule_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It scans single files, directories, and every session of every tool, and never prints the value."""
    file = tmp_path / ".claude/projects/-x" / f"{SESSION}.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(
        encode(claude(SESSION, 1)) + encode(claude(SESSION, 2, text=f"see {TOKEN}")) + b"torn " + TOKEN.encode()
    )
    for arguments in ([str(file)], [str(tmp_path)], ["--all"]):
        assert main(["redact", "scan", *arguments], environ(tmp_path)) == 0
        text = capsys.readouterr().out
        assert TOKEN not in text
        assert "2 secrets in 1 file" in text
        assert [line.split()[-3:] for line in text.splitlines()[1:3]] == [
            ["2", "github-token", "40"],
            ["3", "github-token", "40"],
        ]
        assert max(map(len, text.splitlines())) <= 80
    assert main(["redact", "scan", "--json", str(file)], environ(tmp_path)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["rules"] == {"github-token": 2} and [seen["line"] for seen in answer["found"]] == [2, 3]
    assert TOKEN not in json.dumps(answer)
    allowed = json.dumps([answer["found"][0]["hash"]])
    more = {"SESSIOND_REDACTION__ALLOW_HASHES": allowed}
    assert main(["redact", "scan", str(file)], environ(tmp_path, **more)) == 0
    assert "0 secrets" in capsys.readouterr().out


def test_scan_of_all_sees_what_would_be_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a database, the records of its sessions are scanned and nothing else in it. Excluded projects, and tools whose
    transcripts stay on this machine, are not scanned.
    """
    path = os.path.join(build("opencode/1.18-database", tmp_path), ".local/share/opencode/opencode.db")
    database = open_store(Path(path))
    ((session, directory),) = database.execute(
        "SELECT session_id, directory FROM part JOIN session ON session.id = session_id WHERE part.id = 'prt_000001'"
    )
    part = json.dumps({"type": "text", "text": f"use {TOKEN}"})
    database.execute("UPDATE part SET data = ? WHERE id = 'prt_000001'", (part,))
    database.execute("UPDATE account SET access_token = ?", (expand("gho_<A36>", 2),))
    database.commit()
    database.close()

    def scan(**more: str) -> list[dict[str, object]]:
        assert main(["redact", "scan", "--all", "--json"], environ(tmp_path, **more)) == 0
        answer = capsys.readouterr().out
        assert TOKEN not in answer
        found: list[dict[str, object]] = json.loads(answer)["found"]
        return found

    (found,) = scan()
    assert (found["file"], found["rule"]) == (f"{path}::{session}", "github-token")
    assert found["line"] == 3  # of the records: behind its session and its message
    assert scan(SESSIOND_EXCLUDE=json.dumps([directory])) == []
    assert scan(SESSIOND_TRANSCRIPTS="false") == []


def test_test_masks_stdin(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The masked text is the answer, what was found goes to stderr; with `off` it still says what would be."""
    for mode in ("mask", "off"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"a\nkey {TOKEN}\n".encode())))
        assert main(["redact", "test"], environ(tmp_path, SESSIOND_REDACT=mode)) == 0
        captured = capfdbinary.readouterr()
        assert captured.out == b"a\nkey " + b"*" * 40 + b"\n"
        assert b"line 2: github-token (40 bytes)" in captured.err


def test_rules_are_listed_and_wrong_ones_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The user's own rules are listed too. An error in one names its file, and `config check` finds it too."""
    mine = tmp_path / "mine.toml"
    mine.write_text("[[rules]]\nid = 'mine'\ndescription = 'my own'\nregex = 'xyzzy[0-9]{8}'")
    more = {"SESSIOND_REDACTION__RULES": str(mine)}
    assert main(["redact", "rules"], environ(tmp_path, **more)) == 0
    text = capsys.readouterr().out
    assert "github-token" in text and "my own" in text
    mine.write_text("[[rules]]\nid = 'mine'\nregex = '('")
    for command in (["redact", "rules"], ["config", "check"]):
        assert main(command, environ(tmp_path, **more)) == 78
        assert f"{mine}: rules.mine.regex" in capsys.readouterr().err


def test_a_usage_error_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["redact", "scan"], environ(tmp_path)) == 2
    assert main(["redact", "scan", str(tmp_path / "missing")], environ(tmp_path)) == 1
    assert "no such file" in capsys.readouterr().err
