"""The reader opens only regular files of the user below a root, without following a link on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sessiond.errors import Unsafe
from sessiond.reader import check_regular, open_regular


@pytest.mark.parametrize("relative", ["link.jsonl", "inner/a.jsonl", "deep/inner/a.jsonl"])
def test_a_link_below_the_root_is_not_followed(tmp_path: Path, relative: str) -> None:
    """A file that was checked a moment ago may have been replaced by a link to a secret."""
    root, secret = tmp_path / "root", tmp_path / "secret"
    (root / "deep").mkdir(parents=True)
    secret.mkdir()
    (secret / "a.jsonl").write_bytes(b"secret")
    (root / "link.jsonl").symlink_to(secret / "a.jsonl")
    (root / "inner").symlink_to(secret)
    (root / "deep/inner").symlink_to(secret)
    with pytest.raises(Unsafe):
        open_regular(str(root), relative)
    if relative != "link.jsonl":
        with pytest.raises(Unsafe):
            check_regular(str(root), relative)


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a.jsonl").write_bytes(b"one")
    (tmp_path / "root").symlink_to(tmp_path / "there")
    descriptor = open_regular(str(tmp_path / "root"), "a.jsonl")
    assert os.read(descriptor, 9) == b"one"
    os.close(descriptor)
