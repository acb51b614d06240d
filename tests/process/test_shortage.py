"""If the system refuses threads or memory, the message says so."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sessiond import cli, spool
from sessiond.endpoint.deadline import DeadlineTimer
from sessiond.errors import Shortage, shortage
from sessiond.spool import damaged


def test_an_alarm_whose_thread_could_not_start_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining it would raise another error, which hides the cause."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    alarm = DeadlineTimer(lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            alarm.arm(1.0)
    alarm.close()


def test_what_the_system_refuses_is_told_from_a_bug() -> None:
    found = shortage(RuntimeError("can't start new thread"))
    assert isinstance(found, Shortage)
    assert (found.exit_code, "thread" in str(found), "ulimit" in (found.hint or "")) == (71, True, True)
    assert isinstance(shortage(MemoryError()), Shortage)
    assert shortage(RuntimeError("dictionary changed size during iteration")) is None
    assert shortage(ValueError("can't start new thread")) is None


def test_the_command_line_reports_it_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(cli, "_dispatch", refuse)
    assert cli.main(["status"], {}) == 71
    said = capsys.readouterr().err
    assert "refuses another thread" in said
    assert "ulimit" in said


def test_damaged_spools_of_one_second_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one of the same name would replace the first, which may have the only copy of bytes that were never
    sent.
    """
    monkeypatch.setattr(damaged.time, "strftime", lambda _: "20261128T101010")
    for number in range(12):
        for suffix in ("", "-wal"):
            (tmp_path / f"{spool.NAME}{suffix}").write_text(f"{number}{suffix}")
        damaged.set_aside(str(tmp_path))
    kept = damaged.damaged_spools(str(tmp_path))
    assert [Path(path).read_text() for path in kept] == [str(number) for number in range(12)], "the oldest first"
    assert Path(f"{kept[7]}-wal").read_text() == "7-wal"
    dropped = damaged.drop_damaged(str(tmp_path))
    left = damaged.damaged_spools(str(tmp_path))
    assert [Path(path).read_text() for path in left] == ["0", "9", "10", "11"], "the first one and the newest"
    assert dropped == kept[1:9]
    assert len(os.listdir(tmp_path)) == 8
    assert damaged.drop_damaged(str(tmp_path)) == []
