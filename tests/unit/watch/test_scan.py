"""The files, directories and links that a scan of a root finds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sessiond.watch import scan
from sessiond.watch.scan import ScanStats
from support.watching import flat, tree


def fill(root: Path, *names: str) -> None:
    """Create empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path, *, below: str = "", stats: ScanStats | None = None, **options: object) -> set[str]:
    """Return the files that a scan of a root finds, relative to it."""
    paths = [path for path, _ in scan(tree(root, **options).root, below, stats)]
    assert len(paths) == len(set(paths)), "each file once"
    return {str(Path(path).relative_to(root)) for path in paths}


def test_files_are_found_down_to_the_depth(tmp_path: Path) -> None:
    """A depth of 1 includes the directories in the root. The stats have the directories that were read."""
    fill(tmp_path, "s", "a/s", "a/b/s", "a/b/c/s")
    stats = ScanStats()
    assert found(tmp_path, depth=1, stats=stats) == {"s", "a/s"}
    assert stats.directories == {path.stat().st_ino: str(path) for path in (tmp_path, tmp_path / "a")}
    assert found(tmp_path, depth=2) == {"s", "a/s", "a/b/s"}
    assert found(tmp_path, depth=0) == {"s"}


def test_a_scan_of_a_part_goes_as_deep_as_one_of_the_root(tmp_path: Path) -> None:
    """The levels above the part count."""
    fill(tmp_path, "a/s", "a/b/s", "a/b/c/s", "z/s")
    assert found(tmp_path, below="a", depth=2) == {"a/s", "a/b/s"}
    assert found(tmp_path, below="a/b", depth=2) == {"a/b/s"}
    assert found(tmp_path, below="a/b/c", depth=2) == set()
    assert [path for path, _ in scan(flat(tmp_path).root, "a")] == []


def test_skipped_names_are_directories(tmp_path: Path) -> None:
    """They are skipped at any level. A file with one of these names is still a file."""
    fill(tmp_path, "cache/s", "a/cache/s", "a/s", "b/cache")
    assert found(tmp_path, skip=frozenset({"cache"})) == {"a/s", "b/cache"}


def test_links_are_listed_and_not_followed(tmp_path: Path) -> None:
    """These are links to files and to directories, and dangling ones. A pipe is not a link."""
    fill(tmp_path, "s", "elsewhere/t")
    root = tmp_path / "root"
    fill(root, "u")
    for name, target in (("file", "../s"), ("directory", "../elsewhere"), ("dangling", "nowhere")):
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe")
    stats = ScanStats()
    assert found(root, stats=stats) == {"u"}
    assert sorted(stats.links) == [str(root / name) for name in ("dangling", "directory", "file")]


def test_a_missing_root_has_no_files(tmp_path: Path) -> None:
    """A file in its place has none either. Neither is reported as unreadable."""
    fill(tmp_path, "file")
    stats = ScanStats()
    assert list(scan(tree(tmp_path / "none").root, stats=stats)) == []
    assert list(scan(tree(tmp_path / "file").root, stats=stats)) == []
    assert list(scan(tree(tmp_path).root, "none", stats)) == []
    assert (stats.directories, stats.unreadable) == ({}, [])


def test_what_vanishes_during_a_scan_is_left_out(tmp_path: Path) -> None:
    """A file and a directory are listed, and are gone when they are read. The rest is found."""
    fill(tmp_path, "a/s", "b/s", "1", "2")
    scanning = scan(tree(tmp_path).root)
    first, _ = next(scanning)
    for path in (tmp_path / "1", tmp_path / "2", tmp_path / "a" / "s"):
        if str(path) != first:
            path.unlink()
    (tmp_path / "a").rmdir()
    assert {path for path, _ in scanning} == {str(tmp_path / "b" / "s")}


def test_the_metadata_is_that_of_the_file(tmp_path: Path) -> None:
    """It is compared with the checkpoint."""
    (tmp_path / "s").write_text("12345")
    ((path, stat),) = scan(tree(tmp_path).root)
    assert (path, stat.st_size, stat.st_ino) == (str(tmp_path / "s"), 5, (tmp_path / "s").stat().st_ino)


def test_an_unreadable_directory_does_not_stop_a_scan(tmp_path: Path) -> None:
    """The directory is listed, and the others are read."""
    fill(tmp_path, "closed/s", "open/s")
    (tmp_path / "closed").chmod(0)
    try:
        if os.access(tmp_path / "closed", os.R_OK):
            pytest.skip("root may read everything")
        stats = ScanStats()
        assert found(tmp_path, stats=stats) == {"open/s"}
        assert stats.unreadable == [str(tmp_path / "closed")]
        assert str(tmp_path / "closed") not in stats.directories.values()
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_root_may_be_about_one_file(tmp_path: Path) -> None:
    """A root for one file also yields files whose names begin with its name, such as the -wal of a database."""
    fill(tmp_path, "store.db", "store.db-wal", "settings.json", "sub/store.db")
    assert found(tmp_path, depth=0, only="store.db") == {"store.db", "store.db-wal"}
