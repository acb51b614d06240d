"""`sessiond ls` without an answer of an endpoint: the built-in archive has sessions that the spool lacks."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from sessiond.cli import main
from support.harness import CLAUDE, SESSION, claude, daemon_harness
from support.two_machines import environment

OTHER = "11111111-1111-4111-8111-222222222222"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Capture two sessions into the archive, one of which the spool does not have any more."""
    with daemon_harness(tmp_path) as harness:
        harness.write(CLAUDE, claude(SESSION, 1, text="Tides of the moon"))
        harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1, text="Weave a scarf"))
        harness.settle()
        with harness.spool.transaction():
            harness.spool.connection.execute("DELETE FROM session WHERE uuid = ?", (OTHER,))
        harness.close()
        os.rename(tmp_path / "endpoint", f"{harness.state}/archive")
        return environment(harness) | {"SESSIOND_ENDPOINT__URL": "", "SESSIOND_MACHINE_ID": "testbox"}


def names(capsys: pytest.CaptureFixture[str]) -> dict[str, bool]:
    """Map the names that `ls --json --long` printed to whether the spool has the session."""
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    return {line["name"]: line["this_machine"] for line in lines}


def test_sessions_that_only_the_archive_has_are_listed(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ls", "--json", "--long"], environ) == 0
    assert names(capsys) == {"Tides of the moon": True, "Weave a scarf": False}
    assert main(["ls", "--json", "--long", "--tool", "codex"], environ) == 0
    assert names(capsys) == {}
    assert main(["ls", "--json", "--long"], environ | {"SESSIOND_ENDPOINT__URL": "http://127.0.0.1:9"}) == 0
    assert names(capsys) == {"Tides of the moon": True, "Weave a scarf": False}


def test_a_lost_spool_leaves_the_list(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path(environ["SESSIOND_STATE_DIR"]).glob("spool.db*"):
        path.unlink()
    assert main(["ls", "--json", "--long"], environ) == 0
    assert names(capsys) == {"Tides of the moon": False, "Weave a scarf": False}


def test_an_archive_that_cannot_be_read_is_reported(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    archive = Path(environ["SESSIOND_STATE_DIR"]) / "archive"
    shutil.rmtree(archive)
    archive.mkdir()
    (archive / "endpoint.db").write_bytes(b"no database" * 99)
    assert main(["ls"], environ) != 0
    assert "the built-in archive can't be read" in capsys.readouterr().err
