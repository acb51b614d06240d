"""Small files of our own are replaced whole or not at all."""

from __future__ import annotations

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
    """A directory is in the way of the rename: it stays, and nothing is left beside it."""
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        atomic_write(str(path), b"after")
    assert list(tmp_path.iterdir()) == [path]
