"""Two running copies of one state directory are reported; one restored backup is not."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

from sessiond.spool import health
from sessiond.status import read_status
from sessiond.upload import bind, upload
from support.harness import CLAUDE, SESSION, Household, claude, household

DAY = 86_400_000


def push(house: Household, line: int) -> None:
    """Write a line, and push it after asking the endpoint for its id, as a daemon does at its start and each hour."""
    house.write(CLAUDE, claude(SESSION, line))
    house.scan()
    bind(house.uploading)
    while upload(house.uploading).more:
        house.scan()


def advice(house: Household) -> list[str]:
    """Return what `status` advises about copies."""
    status = read_status(os.devnull, {"HOME": house.home, "SESSIOND_STATE_DIR": house.state}, now_ms=house.now_ms)
    return [each.what for each in status.advice if "pushes as this device" in each.what and each.degraded]


def test_two_copies_that_push_in_turn_are_reported_by_both(tmp_path: Path) -> None:
    """Each one repeatedly finds a push at the endpoint that it did not make."""
    with household(tmp_path) as house:
        push(house, 0)
        house.spool.close()
        twin = copy.copy(house)
        twin.state = str(tmp_path / "copied state")
        shutil.copytree(house.state, twin.state)
        house.open()
        twin.open()
        house.uploading.installation, twin.uploading.installation = 1, 2
        try:
            for line in range(1, 7):
                push(twin if line % 2 else house, line)
            assert advice(house)
            assert advice(twin)
            house.now_ms += 2 * DAY
            assert not advice(house), "what was two days ago says nothing"
        finally:
            twin.close()


def test_a_restored_backup_of_one_side_is_no_copy(tmp_path: Path) -> None:
    """The difference is found once. Afterwards both sides remember the same push."""
    with household(tmp_path) as house:
        push(house, 0)
        house.spool.close()
        shutil.copytree(house.state, tmp_path / "backup")
        house.open()
        push(house, 1)
        house.spool.close()
        shutil.rmtree(house.state)
        shutil.copytree(tmp_path / "backup", house.state)
        house.open()
        house.uploading.installation = 2
        for line in range(2, 6):
            push(house, line)
        assert health.read_copies(house.spool).diverged(house.now_ms) == 1
        assert not advice(house)


def test_a_generation_that_a_restored_spool_does_not_know_is_not_taken_for_its_own(tmp_path: Path) -> None:
    """Both times the file was rewritten, to different bytes, and both call the result generation 1."""
    with household(tmp_path) as house:
        for number, text in enumerate("abcd"):
            house.write(CLAUDE, claude(SESSION, number, text=text))
            house.settle()
        house.spool.close()
        shutil.copytree(house.state, tmp_path / "backup")
        house.open()
        house.write(CLAUDE, *(claude(SESSION, each, text=text) for each, text in enumerate("abX")), mode="wb")
        house.settle()
        house.spool.close()
        shutil.rmtree(house.state)
        shutil.copytree(tmp_path / "backup", house.state)
        house.open()
        path = house.write(CLAUDE, *(claude(SESSION, each, text=text) for each, text in enumerate("abcYZ")), mode="wb")
        house.scan()
        house.settle()
        assert house.held(SESSION) == Path(path).read_bytes()


def test_another_machine_is_noted_and_another_name_of_it_is_not(tmp_path: Path) -> None:
    """A network may rename a laptop; a home that moved has another machine id."""
    with household(tmp_path) as house:
        health.note_host(house.spool, "laptop", "id-1", 1)
        health.note_host(house.spool, "laptop.example", "id-1", 2)
        assert health.read_copies(house.spool).moved_from is None
        health.note_host(house.spool, "tower", "id-2", 3)
        found = health.read_copies(house.spool)
        assert (found.moved_from, found.moved_ms, found.host) == ("laptop.example", 3, "tower")
