"""Commands that change the configuration or pause: they check first, and never overwrite a user's file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from sessiond import pause
from sessiond.cli import main
from sessiond.config import load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf" / "config.toml"


def call(file: Path, *words: str, **environ: str) -> int:
    return main([*words, "--config", str(file)], {"HOME": str(file.parent), **environ})


def test_init_writes_the_example_once(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(file, "config", "init") == 0
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert "#rescan = " in text
    file.write_text("rescan = 7\n")
    assert call(file, "config", "init") == 1
    assert file.read_text() == "rescan = 7\n"


def test_set_writes_beside_the_users_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(file, "config", "init")
    before = file.read_text()
    assert call(file, "config", "set", "rescan", "5m") == 0
    assert call(file, "config", "set", "sources.codex.roots", '["/srv/a"]') == 0
    loaded = load(str(file), {})
    assert (loaded.config.rescan, loaded.config.sources["codex"].roots) == (300, ["/srv/a"])
    assert file.read_text() == before
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f'sources.codex.roots = ["/srv/a"] in {file.parent}/config.d/50-set.toml'
    assert call(file, "config", "unset", "rescan") == 0
    assert capsys.readouterr().out == f"rescan is no longer set in {file.parent}/config.d/50-set.toml\n"
    assert load(str(file), {}).config.rescan == 60
    assert call(file, "config", "set", "rescan", "9", SESSIOND_RESCAN="3") == 0
    assert "the environment variable SESSIOND_RESCAN overrides it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("endpoint.ulr", "x", 'did you mean "endpoint.url"?'),
        ("endpoint", "x", "unknown key"),
        ("endpoint.url", "http://example.org", "plain http to example.org"),
        ("sources.codx.enabled", "no", 'did you mean "codex"?'),
        ("rescan", "soon", "rescan: expected seconds"),
    ],
)
def test_what_would_be_refused_is_not_written(
    file: Path, key: str, value: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(file, "config", "set", key, value) == 78
    said = capsys.readouterr().err
    assert says in said
    assert "50-set.toml" not in said  # it has no such line
    assert not (file.parent / "config.d").exists() or not list((file.parent / "config.d").iterdir())


def test_an_edit_is_saved_only_without_error(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the user's file, not the draft; a link to the file stays a link."""
    call(file, "config", "init")
    real = file.with_name("dotfile")
    file.rename(real)
    file.symlink_to(real)
    before = file.read_text()
    assert call(file, "config", "edit", EDITOR="sed -i s/#rescan/rescn/") == 78
    said = capsys.readouterr().err
    assert "nothing was saved\n" in said
    assert f"{file}:" in said
    assert file.read_text() == before
    assert call(file, "config", "edit", EDITOR="sed -i s/#rescan/rescan/") == 0
    assert file.is_symlink()
    assert "\nrescan = " in real.read_text()
    assert call(file, "config", "edit", EDITOR="false") == 1
    assert call(file, "config", "edit", EDITOR="true") == 0
    assert "nothing was changed" in capsys.readouterr().out


def test_a_pause_is_kept_shown_and_ended(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = str(tmp_path / "state")
    environ = {"SESSIOND_STATE_DIR": state}
    assert call(file, "pause", "2h", SESSIOND_CONFIG="") == 78  # named, and not there
    file.parent.mkdir(exist_ok=True)
    file.touch()
    assert call(file, "pause", "2h", **environ) == 0
    assert call(file, "pause", "--tool", "codex", **environ) == 0
    now_ms = time.time_ns() // 1_000_000
    paused = pause.read(state, now_ms)
    assert 7_100_000 < (paused.pushing or 0) - now_ms <= 7_200_000
    assert paused.sources == {"codex": pause.INDEFINITELY}
    capsys.readouterr()
    assert call(file, "status", "--json", **environ) == 3
    assert json.loads(capsys.readouterr().out)["paused"]["sources"] == {"codex": 0}
    assert call(file, "unpause", "--tool", "codex", **environ) == 0
    assert pause.read(state, now_ms).sources == {}
    assert pause.read(state, now_ms + 7_300_000).pushing is None
    assert call(file, "unpause", **environ) == 0
    assert not (tmp_path / "state" / pause.FILE).exists()
    assert call(file, "pause", "--tool", "codx", **environ) == 2
    assert call(file, "pause", "soon", **environ) == 2


def test_logs_shows_the_rotated_files_in_order(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "state" / "log"
    folder.mkdir(parents=True)
    file.parent.mkdir()
    file.touch()
    start = {"timestamp": "2026-09-01T10:00:00.1Z", "level": "info", "event": "daemon.started", "version": "1"}
    skipped = {"timestamp": "2026-09-02T10:00:00Z", "level": "warning", "event": "ingest.skipped", "tool": "codex"}
    (folder / "sessiond.log.1").write_text(json.dumps(start) + "\n")
    (folder / "sessiond.log").write_text(json.dumps({**skipped, "path": "a\x1b b"}) + '\n{"cut')
    environ = {"SESSIOND_STATE_DIR": str(tmp_path / "state"), "TZ": "UTC"}
    assert call(file, "logs", **environ) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("[info   ] daemon.started version=1")
    assert second.endswith('[warning] ingest.skipped tool=codex path="a\\x1b b"')
    assert call(file, "logs", "--level", "warning", "--json", **environ) == 0
    assert json.loads(capsys.readouterr().out)["event"] == "ingest.skipped"
    assert call(file, "logs", "--tool", "codex", "--since", "2026-09-02T11:00+00:00", **environ) == 0
    assert capsys.readouterr().out == ""
