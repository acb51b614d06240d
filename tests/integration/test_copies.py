"""Two running copies of one state directory are reported; one restored backup is not."""

from __future__ import annotations

import copy
import os
import shutil
from contextlib import closing
from pathlib import Path

from sessiond.spool import Spool, health
from sessiond.status import read_status
from sessiond.upload import bind, upload
from support.empty_spool import put_spool
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness

DAY = 86_400_000


def push(harness: DaemonHarness, line: int) -> None:
    """Write a line, and push it after asking the endpoint for its id, as a daemon does at its start and each hour."""
    harness.write(CLAUDE, claude(SESSION, line))
    harness.scan()
    bind(harness.uploading)
    while upload(harness.uploading).more:
        harness.scan()


def advice(harness: DaemonHarness) -> list[str]:
    """Return what `status` advises about copies."""
    status = read_status(os.devnull, {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state}, now_ms=harness.now_ms)
    return [each.what for each in status.advice if "pushes as this device" in each.what and each.degraded]


def test_two_copies_that_push_in_turn_are_reported_by_both(tmp_path: Path) -> None:
    """Each one repeatedly finds a push at the endpoint that it did not make."""
    with daemon_harness(tmp_path) as harness:
        push(harness, 0)
        harness.spool.close()
        twin = copy.copy(harness)
        twin.state = str(tmp_path / "copied state")
        shutil.copytree(harness.state, twin.state)
        harness.open()
        twin.open()
        harness.uploading.installation, twin.uploading.installation = 1, 2
        try:
            for line in range(1, 7):
                push(twin if line % 2 else harness, line)
            assert advice(harness)
            assert advice(twin)
            harness.now_ms += 2 * DAY
            assert not advice(harness), "what was two days ago says nothing"
        finally:
            twin.close()


def test_a_restored_backup_of_one_side_is_no_copy(tmp_path: Path) -> None:
    """The difference is found once. Afterwards both sides remember the same push."""
    with daemon_harness(tmp_path) as harness:
        push(harness, 0)
        harness.spool.close()
        shutil.copytree(harness.state, tmp_path / "backup")
        harness.open()
        push(harness, 1)
        harness.spool.close()
        shutil.rmtree(harness.state)
        shutil.copytree(tmp_path / "backup", harness.state)
        harness.open()
        harness.uploading.installation = 2
        for line in range(2, 6):
            push(harness, line)
        assert health.read_copies(harness.spool).diverged(harness.now_ms) == 1
        assert not advice(harness)


def test_a_generation_that_a_restored_spool_does_not_know_is_not_taken_for_its_own(tmp_path: Path) -> None:
    """Both times the file was rewritten, to different bytes, and both call the result generation 1."""
    with daemon_harness(tmp_path) as harness:
        for number, text in enumerate("abcd"):
            harness.write(CLAUDE, claude(SESSION, number, text=text))
            harness.settle()
        harness.spool.close()
        shutil.copytree(harness.state, tmp_path / "backup")
        harness.open()
        harness.write(CLAUDE, *(claude(SESSION, each, text=text) for each, text in enumerate("abX")), mode="wb")
        harness.settle()
        harness.spool.close()
        shutil.rmtree(harness.state)
        shutil.copytree(tmp_path / "backup", harness.state)
        harness.open()
        path = harness.write(
            CLAUDE, *(claude(SESSION, each, text=text) for each, text in enumerate("abcYZ")), mode="wb"
        )
        harness.scan()
        harness.settle()
        assert harness.held(SESSION) == Path(path).read_bytes()


def test_another_machine_is_noted_and_another_name_of_it_is_not(tmp_path: Path) -> None:
    """A network may rename a laptop; a home that moved has another machine id."""
    put_spool(str(tmp_path))
    with closing(Spool(str(tmp_path))) as spool:
        health.note_host(spool, "laptop", "id-1", 1)
        health.note_host(spool, "laptop.example", "id-1", 2)
        assert health.read_copies(spool).moved_from is None
        health.note_host(spool, "tower", "id-2", 3)
        found = health.read_copies(spool)
        assert (found.moved_from, found.moved_ms, found.host) == ("laptop.example", 3, "tower")
