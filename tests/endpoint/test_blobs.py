"""Objects in a directory and in an S3-compatible store: the same few operations, and what fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from object_store import new_prefix

from sessiond.endpoint.server.blobs import BlobMissing, Blobs, BlobsUnavailable, FileBlobs
from sessiond.endpoint.server.opening import open_blobs
from sessiond.errors import ConfigError, StateError, StateFull

ENDPOINT = UUID(int=7)


@pytest.fixture(params=["files", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blobs]:
    """Yield an empty object store of each kind."""
    if request.param == "files":
        yield open_blobs(str(tmp_path), ENDPOINT)
        return
    with new_prefix() as where:
        yield open_blobs(where, ENDPOINT)


def test_what_is_put_can_be_read_listed_and_deleted(blobs: Blobs) -> None:
    """Names are paths. Deleting what does not exist changes nothing."""
    blobs.put("a/one", b"0123456789")
    blobs.put("b/two", b"x")
    assert blobs.get("a/one", 0, 10) == b"0123456789"
    assert blobs.get("a/one", 3, 5) == b"34"
    listed = list(blobs.list())
    assert sorted(each.name for each in listed) == ["a/one", "b/two"]
    assert all(-60 < each.age < 600 for each in listed)
    blobs.delete(["a/one", "a/none"])
    assert [each.name for each in blobs.list()] == ["b/two"]
    with pytest.raises(BlobMissing, match="a/one"):
        blobs.get("a/one", 0, 1)
    for start in (0, 1):
        with pytest.raises(StateError, match="too short"):
            blobs.get("b/two", start, 2)
    assert blobs.get("b/two", 0, 1) == b"x", "a damaged object keeps no other from being read"


def test_endpoints_share_a_place_and_see_nothing_of_each_other(tmp_path: Path) -> None:
    """Each sweeps only its own objects."""
    ours, theirs = FileBlobs(str(tmp_path), "one"), FileBlobs(str(tmp_path), "two")
    ours.put("a/x", b"ours")
    assert list(theirs.list()) == []
    with pytest.raises(BlobMissing):
        theirs.get("a/x", 0, 1)


def test_a_disk_that_is_not_mounted_loses_nothing(tmp_path: Path) -> None:
    """Nothing is written below the mount point, and a missing disk does not look like deleted objects."""
    blobs = FileBlobs(str(tmp_path / "disk"), "one")
    blobs.put("a/x", b"here")
    os.rename(tmp_path / "disk" / "one", tmp_path / "elsewhere")
    attempts: list[Callable[[], object]] = [
        lambda: blobs.put("a/y", b"lost"),
        lambda: blobs.get("a/x", 0, 1),
        lambda: blobs.delete(["a/x"]),
        lambda: list(blobs.list()),
    ]
    for attempt in attempts:
        with pytest.raises(BlobsUnavailable):
            attempt()
    assert os.listdir(tmp_path / "disk") == []
    os.rename(tmp_path / "elsewhere", tmp_path / "disk" / "one")
    assert blobs.get("a/x", 0, 4) == b"here"


def test_only_the_user_can_read_the_files(tmp_path: Path) -> None:
    """They have transcripts."""
    blobs = FileBlobs(str(tmp_path), "one")
    blobs.put("a/x", b"private")
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"one": 0o700, "one/a": 0o700, "one/a/x": 0o600}


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="shows the names of descriptors in /proc")
def test_a_file_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut leaves no name without the bytes, and no object that the tables name without its name."""
    blobs = FileBlobs(str(tmp_path), "one")
    calls: list[str] = []
    sync, replace = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).partition(".")[0])
        sync(descriptor)

    def note_replace(old: str, new: str) -> None:
        calls.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    blobs.put("a/x", b"bytes")
    assert calls == ["one", "x", "rename", "a"]


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packer tries again later."""
    blobs = FileBlobs(str(tmp_path), "one")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    blobs.put("a/x", b"first")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateFull):
        blobs.put("a/y", b"second")
    assert [each.name for each in blobs.list()] == ["a/x"]


def test_an_object_store_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing bucket is not a missing object either."""
    with new_prefix() as where:
        missing = open_blobs(f"s3://no-such-bucket-{os.getpid()}/x", ENDPOINT)
        for attempt in (lambda: missing.get("a/x", 0, 1), lambda: missing.put("a/x", b"y")):
            with pytest.raises(BlobsUnavailable):
                attempt()
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        down = open_blobs(where, ENDPOINT)
        with pytest.raises(BlobsUnavailable) as failed:
            down.get("a/x", 0, 1)
        assert "\n" not in str(failed.value)


@pytest.mark.parametrize("where", ["s3://", "gs://bucket"])
def test_other_addresses_are_refused(where: str) -> None:
    """The error shows what fits."""
    with pytest.raises(ConfigError, match="--blobs"):
        open_blobs(where, ENDPOINT)


def test_a_deleted_folder_of_a_user_is_made_again(tmp_path: Path) -> None:
    """Folders of users come and go; the endpoint's own folder must exist."""
    blobs = FileBlobs(str(tmp_path), "one")
    blobs.put("a/x", b"1")
    shutil.rmtree(tmp_path / "one" / "a")
    blobs.put("a/y", b"2")
    assert blobs.get("a/y", 0, 1) == b"2"


def test_reads_fail_at_once_while_the_object_store_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """One read tries after a pause. So a store that hangs keeps one thread, and not those of all readers."""
    from sessiond.endpoint.server import s3_blobs

    now = [100.0]
    tries: list[str] = []
    down = True

    def get_range(_: object, name: str, *, start: int, end: int) -> bytes:
        tries.append(name)
        if len(tries) == 2:
            with pytest.raises(BlobsUnavailable, match="a moment ago"):
                blobs.get("second while the first tries", 0, 1)
        if down:
            raise OSError("timed out")
        return b"x" * (end - start)

    with new_prefix():
        blobs = s3_blobs.S3Blobs("bucket", "", "endpoint", clock=lambda: now[0])
    monkeypatch.setattr(s3_blobs.obstore, "get_range", get_range)
    for _ in range(3):
        with pytest.raises(BlobsUnavailable):
            blobs.get("a", 0, 1)
    assert tries == ["a"]
    now[0] += s3_blobs.PAUSE
    with pytest.raises(BlobsUnavailable):
        blobs.get("b", 0, 1)
    assert tries == ["a", "b"]
    now[0] += s3_blobs.PAUSE
    down = False
    assert blobs.get("c", 0, 2) == b"xx"
    assert blobs.get("d", 0, 1) == b"x"
    assert tries == ["a", "b", "c", "d"]
