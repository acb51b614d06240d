"""Damaged spools: all files of one are moved together, none overwrites another, and few are kept."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from sessiond.errors import SpoolDamaged, SpoolTooNew
from sessiond.spool import NAME, Spool
from sessiond.spool.damaged import KEPT, check, damaged_spools, drop_damaged, set_aside
from sessiond.spool.schema import OLDEST, VERSION


@pytest.mark.parametrize("suffixes", [("",), ("", "-wal"), ("", "-wal", "-shm"), ("-shm",)])
def test_all_files_of_a_spool_are_moved_together(tmp_path: Path, suffixes: tuple[str, ...]) -> None:
    """A log that stays behind would be read into the new spool."""
    for suffix in suffixes:
        (tmp_path / (NAME + suffix)).write_text(f"content{suffix}")
    aside = set_aside(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(os.path.basename(aside) + suffix for suffix in suffixes)
    assert all(Path(aside + suffix).read_text() == f"content{suffix}" for suffix in suffixes)


def test_spools_of_the_same_second_are_all_kept(tmp_path: Path) -> None:
    """They are listed in the order in which they were set aside."""
    asides = []
    for number in range(12):
        (tmp_path / NAME).write_text(str(number))
        asides.append(set_aside(str(tmp_path)))
    assert damaged_spools(str(tmp_path)) == asides
    assert [Path(path).read_text() for path in asides] == [str(number) for number in range(12)]


@pytest.mark.parametrize("count", [0, 1, KEPT + 1, KEPT + 2, KEPT + 4])
def test_the_first_and_the_newest_are_kept(tmp_path: Path, count: int) -> None:
    """The first one most likely holds bytes that exist nowhere else."""
    for _ in range(count):
        for suffix in ("", "-wal"):
            (tmp_path / (NAME + suffix)).touch()
        set_aside(str(tmp_path))
    before = damaged_spools(str(tmp_path))
    kept = before if count <= KEPT + 1 else [before[0], *before[-KEPT:]]
    assert drop_damaged(str(tmp_path)) == [path for path in before if path not in kept]
    assert damaged_spools(str(tmp_path)) == kept
    assert len(os.listdir(tmp_path)) == 2 * len(kept)


def test_only_versions_that_can_be_migrated_are_opened(tmp_path: Path) -> None:
    """A newer spool is refused and left alone: the newer version of sessiond can still use it."""
    with closing(Spool(str(tmp_path))) as spool:
        assert spool.connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        for version, error in ((VERSION + 1, SpoolTooNew), (OLDEST - 1, SpoolDamaged)):
            spool.connection.execute(f"PRAGMA user_version = {version}")
            for readonly in (False, True):
                with pytest.raises(error):
                    Spool(str(tmp_path), readonly=readonly)
            assert spool.connection.execute("PRAGMA user_version").fetchone() == (version,)
        spool.connection.execute(f"PRAGMA user_version = {VERSION}")
    Spool(str(tmp_path), readonly=True).close()


def test_a_spool_that_does_not_exist_is_not_damaged(tmp_path: Path) -> None:
    """The check must not create it either."""
    check(str(tmp_path))
    assert not os.listdir(tmp_path)
    Spool(str(tmp_path)).close()
    check(str(tmp_path))
