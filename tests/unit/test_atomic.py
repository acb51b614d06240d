"""Small files of our own are replaced whole or not at all."""

from __future__ import annotations

import resource
import stat
from pathlib import Path

import pytest

from sessiond.atomic import atomic_write


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_file_has_the_new_content_and_exactly_the_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(0o666)
    atomic_write(str(path), b"after", mode=mode)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"after", mode)
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_no_temporary_file(tmp_path: Path) -> None:
    """A directory is in the way of the rename: it stays, and no other file is left."""
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        atomic_write(str(path), b"after")
    assert list(tmp_path.iterdir()) == [path]


def test_an_exclusive_write_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "token"
    atomic_write(str(path), b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        atomic_write(str(path), b"second", exclusive=True)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"first", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_exclusive_write_leaves_no_empty_file(tmp_path: Path) -> None:
    """On a full disk, for example. The next try must not find an empty token."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            atomic_write(str(tmp_path / "token"), b"x" * 100, exclusive=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(tmp_path.iterdir()) == []
