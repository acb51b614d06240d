"""`backfill`: which sessions from before the first start are captured. The others are never forgotten."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace
from test_databases import STORES

from sessiond.config import Config, load
from sessiond.config.units import parse_backfill
from sessiond.daemon.backlog import Rank
from sessiond.errors import ConfigError
from sessiond.ingest.backfill import BEGAN, oldest_ms
from support.capture import DAY, lab, session, write
from support.harness import CLAUDE, SESSION, claude, daemon_harness
from support.sample_tree import build


def test_everything_is_captured_by_default(tmp_path: Path) -> None:
    write(tmp_path, 1, age=4000 * DAY)
    with lab(tmp_path) as made:
        assert made.look().left_out == 0
        assert made.captured() == {session(1)}


def test_older_sessions_are_left_out_and_counted(tmp_path: Path) -> None:
    """Neither its path nor its content is stored. A second scan and a restart leave it out too."""
    old, new = write(tmp_path, 1, age=91 * DAY), write(tmp_path, 2, age=89 * DAY)
    with lab(tmp_path, {"backfill": "90d"}) as made:
        for _ in range(2):
            found = made.look()
            assert (found.discovered, found.left_out, found.backlog) == ({"claude-code": 2}, 1, 0)
            assert found.left_out_bytes == os.path.getsize(old)
            assert made.captured() == {session(2)}
        assert [path for path, _ in made.resources.spool.catalog.checkpoints()] == [new]
    with lab(tmp_path, {"backfill": "90d"}) as made:
        assert made.look().left_out == 1


def test_an_old_session_that_changes_is_captured_whole(tmp_path: Path) -> None:
    """It is captured from its first line, with the streams in other files that did not change."""
    path = write(tmp_path, 1, age=9 * DAY, lines=3)
    agent = write(tmp_path, 1, age=9 * DAY, relative=f"{session(1)}/subagents/agent-a1.jsonl")
    with lab(tmp_path, {"backfill": "none"}) as made:
        assert made.look().left_out == 2
        write(tmp_path, 1, age=0)
        assert made.touch(path).left_out == 0
        (found,) = made.resources.spool.catalog.sessions()
        folded = {stream.name: stream.folded for stream in made.resources.spool.catalog.streams(found.id)}
        assert sorted(folded.values()) == sorted(os.path.getsize(each) for each in (path, agent))


def test_a_change_counts_though_it_looks_old(tmp_path: Path) -> None:
    """A tool wrote with a clock that is years behind. A scan, which has only file times, finds the change too."""
    reported, found = write(tmp_path, 1, age=9 * DAY), write(tmp_path, 2, age=9 * DAY)
    with lab(tmp_path, {"backfill": "none"}) as made:
        assert made.look().left_out == 2
        write(tmp_path, 1, age=4000 * DAY)
        assert made.touch(reported).left_out == 1
        write(tmp_path, 2, age=4000 * DAY)
        assert made.look().left_out == 0
        assert made.captured() == {session(1), session(2)}
        assert os.path.getsize(found)


def test_what_is_left_out_and_deleted_is_not_counted_any_more(tmp_path: Path) -> None:
    """The deletion of one file of a session is no reason to capture another one."""
    path = write(tmp_path, 1, age=9 * DAY)
    write(tmp_path, 1, age=9 * DAY, relative=f"{session(1)}/subagents/agent-a1.jsonl")
    with lab(tmp_path, {"backfill": "none"}) as made:
        assert made.look().left_out == 2
        os.unlink(path)
        assert made.touch(path).left_out == 1
        assert made.captured() == set()


def test_another_value_later_picks_up_the_rest(tmp_path: Path) -> None:
    """A value that leaves out more discards nothing that was captured."""
    for number, age in enumerate((1, 50, 100), start=1):
        write(tmp_path, number, age=age * DAY)
    for value, expected in (("none", 0), ("60d", 2), ("none", 2), ("all", 3), ("10d", 3)):
        with lab(tmp_path, {"backfill": value}) as made:
            assert made.look().left_out == 3 - expected
            assert len(made.captured()) == expected


def test_what_came_while_the_daemon_was_off_is_no_backfill(tmp_path: Path) -> None:
    """The time of the first start is stored: a session that was written after it is new, however long ago that is."""
    write(tmp_path, 1, age=20 * DAY)
    write(tmp_path, 2, age=40 * DAY)
    with lab(tmp_path, {"backfill": "none"}) as made:
        assert made.look().left_out == 2
        began_ms = int(made.resources.spool.meta(BEGAN) or 0) - 30 * DAY * 1000
        made.resources.spool.set_meta(BEGAN, str(began_ms))  # as if it had been started a month ago
    with lab(tmp_path, {"backfill": "none"}) as made:
        assert made.look().left_out == 1
        assert made.captured() == {session(1)}


def test_what_was_copied_while_the_daemon_was_off_is_no_backfill_however_old_it_is(tmp_path: Path) -> None:
    """It came from another machine or a backup with its old time, and did not exist before the first start."""
    write(tmp_path, 1, age=100 * DAY)
    with lab(tmp_path, {"backfill": "90d"}) as made:
        assert made.look().left_out == 1
    write(tmp_path, 2, age=100 * DAY)
    with lab(tmp_path, {"backfill": "90d"}) as made:
        assert made.look().left_out == 1
        assert made.captured() == {session(2)}


def test_what_is_copied_during_the_first_run_is_no_backfill_either(tmp_path: Path) -> None:
    """The time of the first use counts from then on, not from the next start."""
    write(tmp_path, 1, age=100 * DAY)
    with lab(tmp_path, {"backfill": "90d"}) as made:
        assert made.look().left_out == 1
        write(tmp_path, 2, age=100 * DAY)
        assert made.look().left_out == 1
        assert made.captured() == {session(2)}


def test_a_home_that_is_copied_to_a_new_machine_brings_no_backfill_back(tmp_path: Path) -> None:
    """All its files are new there, even those of the state directory. What was left out stays left out."""
    write(tmp_path / "old", 1, age=100 * DAY)
    with lab(tmp_path / "old", {"backfill": "90d"}) as made:
        assert made.look().left_out == 1
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    with lab(tmp_path / "new", {"backfill": "90d"}) as made:
        assert made.look().left_out == 1
        assert made.captured() == set()


def test_the_first_start_is_known_after_the_spool_is_lost(tmp_path: Path) -> None:
    with lab(tmp_path, {"backfill": "none"}) as made:
        made.look()
    for name in ("spool.db", "spool.db-wal", "spool.db-shm"):
        (tmp_path / "state" / name).unlink(missing_ok=True)
    month = os.stat(tmp_path / "state" / "device.toml").st_mtime - 30 * DAY
    os.utime(tmp_path / "state" / "device.toml", (month, month))
    write(tmp_path, 1, age=20 * DAY)
    with lab(tmp_path, {"backfill": "none"}) as made:
        assert made.look().left_out == 0


def test_a_first_start_under_a_clock_ahead_is_corrected(tmp_path: Path) -> None:
    """Files that are written until the clock catches up would otherwise be left out."""
    with daemon_harness(tmp_path) as harness:
        assert oldest_ms(harness.spool, "none", 5_000) == 5_000
        assert oldest_ms(harness.spool, "none", 9_000) == 5_000
        assert oldest_ms(harness.spool, "none", 1_000) == 1_000
        assert oldest_ms(harness.spool, "1s", 1_000) == 0
        assert oldest_ms(harness.spool, "all", 1_000) is None


def test_a_database_is_captured_as_a_whole(tmp_path: Path) -> None:
    """The time of its newest change counts, and a change of its -wal is one."""
    with daemon_harness(tmp_path) as harness:
        path = os.path.join(build("goose/schema-15", harness.home), STORES["goose/schema-15"])
        past = harness.now_ms / 1000 - 90 * DAY
        os.utime(path, (past, past))
        harness.ingesting = replace(harness.ingesting, oldest_ms=harness.now_ms - 60 * DAY * 1000, here_ms=None)
        assert [outcome.left_out for outcome in harness.ingest(path, Rank.OLD)] == [True]
        assert not harness.known()
        with open(f"{path}-wal", "ab"):
            os.utime(f"{path}-wal", (harness.now_ms / 1000, harness.now_ms / 1000))
        harness.scan()
        assert {found.tool for found in harness.spool.catalog.sessions()} == {"goose"}


def test_a_captured_session_that_is_moved_stays_captured(tmp_path: Path) -> None:
    """An archived file has its old time and a new name."""
    with daemon_harness(tmp_path) as harness:
        path = harness.write(CLAUDE, claude(SESSION, 1))
        harness.scan()
        moved = f"{harness.home}/.claude/projects/-home-dev-other/{SESSION}.jsonl"
        os.makedirs(os.path.dirname(moved))
        os.rename(path, moved)
        os.utime(moved, (1, 1))
        harness.ingesting = replace(harness.ingesting, oldest_ms=harness.now_ms)
        harness.scan()
        (found,) = harness.spool.catalog.sessions()
        assert found.gone_ms is None


@pytest.mark.parametrize(("text", "seconds"), [("all", None), ("none", 0.0), ("90d", 90 * DAY), (" 1w ", 7 * DAY)])
def test_it_is_written_as_an_age_or_a_word(text: str, seconds: float | None, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(f'backfill = "{text}"\n')
    assert parse_backfill(load(str(tmp_path / "c.toml"), {}).config.backfill) == seconds
    assert Config().backfill == "all"


@pytest.mark.parametrize("value", ['"90"', '"some"', "90", '""', '"-3d"', "true"])
def test_anything_else_is_an_error_that_says_what_is_wanted(value: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(f"backfill = {value}\n")
    with pytest.raises(ConfigError, match='expected "all", "none", or an age as text like "90d"'):
        load(str(tmp_path / "c.toml"), {})
