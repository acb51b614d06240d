"""Changes are noticed at once and stay known: no rescan may hide a lost wake-up."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sessiond.config import Config
from sessiond.directories import state_directory
from sessiond.privacy import Masking, read_terms
from sessiond.redact.examples import expand
from sessiond.sources.base import Root
from sessiond.status.configured import read_configured
from sessiond.watch import WatchedRoot, Watcher, WatchOptions
from support.capture import lab, write

HOUR = 3600.0


def next_paths(watcher: Watcher, path: str) -> None:
    """Wait until the watcher reports a path, by an event or a scan of its root."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        batch = watcher.wait(30)
        if path in batch.paths:
            return
    raise AssertionError(f"{path} was not reported")


def test_a_root_that_is_added_is_watched_at_once(tmp_path: Path) -> None:
    """Another tool's session led to this project: its next change causes an event, and does not wait for the rescan."""
    first, learned = tmp_path / "first", tmp_path / "learned"
    first.mkdir()
    learned.mkdir()
    watcher = Watcher([WatchedRoot(root=Root(path=str(first)), owner="a")], WatchOptions(rescan=HOUR))
    watcher.start()
    try:
        assert watcher.wait(30).rescan, "the look at the start"
        added = WatchedRoot(root=Root(path=str(learned)), owner="b")
        watcher.add([added])
        assert added in watcher.wait(30).rescan, "it is looked at"
        written = learned / "new.jsonl"
        written.write_text("{}\n")
        next_paths(watcher, str(written))
    finally:
        watcher.close()


def test_a_directory_that_was_renamed_away_and_back_is_not_gone(tmp_path: Path) -> None:
    """Its files have not changed: only their return shows it."""
    path = write(tmp_path, 1, age=0)
    project = os.path.dirname(path)
    with lab(tmp_path) as harness:
        harness.look()
        os.rename(project, f"{tmp_path}/elsewhere")
        harness.look()
        file = harness.resources.spool.catalog.file(path)
        assert file is not None
        assert file.gone_ms is not None
        os.rename(f"{tmp_path}/elsewhere", project)
        harness.look()
        file = harness.resources.spool.catalog.file(path)
        assert file is not None
        assert file.gone_ms is None
        (found,) = harness.resources.spool.catalog.sessions()
        assert found.gone_ms is None
        assert found.record is not None, "the endpoint hears of it"


def test_deleted_files_are_not_counted(tmp_path: Path) -> None:
    """The deletions are the only changes since the last scan. `status` counts the files that exist."""
    kept, deleted = write(tmp_path, 1, age=0), write(tmp_path, 2, age=0)
    with lab(tmp_path) as harness:
        found = harness.look()
        assert found.discovered == {"claude-code": 2}
        size = found.found_bytes
        os.unlink(deleted)
        found = harness.look()
        assert found.discovered == {"claude-code": 1}
        assert found.found_bytes == os.path.getsize(kept) < size
        os.unlink(kept)
        assert not (harness.look().discovered or {}).get("claude-code")


def test_files_that_look_like_sessions_are_counted_only_when_a_file_changed(tmp_path: Path) -> None:
    """They are not queued: a scan that finds no change neither counts them nor opens one."""
    path = write(tmp_path, 1, age=0)
    copy = Path(f"{path[: -len('.jsonl')]} (2).jsonl")
    copy.write_bytes(Path(path).read_bytes())
    with lab(tmp_path) as harness:
        found = harness.look()
        assert (found.discovered, found.unrecognized, found.backlog) == ({"claude-code": 1}, {"claude-code": 1}, 0)
        counted = harness.capture_loop.scanner.counts
        assert harness.look().unrecognized == {"claude-code": 1}
        assert harness.capture_loop.scanner.counts is counted, "counted once"
        copy.unlink()
        assert harness.look().unrecognized == {}


def test_sessions_in_directories_that_are_not_searched_are_counted(tmp_path: Path) -> None:
    """They are too deep for a scan. The count is that of the start, then of each day."""
    path = Path(write(tmp_path, 1, age=0))
    deep = path.parent.joinpath(*"abcdefghijkl", path.name)
    deep.parent.mkdir(parents=True)
    deep.write_bytes(path.read_bytes())
    with lab(tmp_path) as harness:
        found = harness.look()
        assert (found.discovered, found.unrecognized) == ({"claude-code": 1}, {"claude-code": 1})
        deep.unlink()
        assert harness.look().unrecognized == {"claude-code": 1}
    with lab(tmp_path) as harness:
        assert harness.look().unrecognized == {}


@pytest.mark.parametrize(
    ("text", "masked"),
    [("plain", "plain"), ("é\u20ac", "é\u20ac"), ("a\udcff", "a\udcff"), ("a\udc80", "a\udc80"), ("\ud800", "\ud800")],
)
def test_a_name_without_a_secret_stays_as_it_is_whatever_bytes_it_has(text: str, masked: str) -> None:
    """File names may not be UTF-8, and JSON may contain lone surrogates of another range."""
    assert Masking(read_terms(Config(), {}, b"k" * 32)).text(text) == masked


@pytest.mark.parametrize("strange", ["\udc80", "\udcff", "\udcfe\udc81"])
def test_a_name_with_a_secret_keeps_its_other_bytes(strange: str) -> None:
    """The name is masked in place: bytes that are not UTF-8 stay the same."""
    secret = expand("ghp_<A36>", 1)
    found = Masking(read_terms(Config(), {}, b"k" * 32)).text(f"{strange} {secret} {strange}")
    assert found is not None
    assert secret not in found
    assert (found[: len(strange)], found[-len(strange) :]) == (strange, strange)


def test_the_state_is_found_though_the_configuration_is_wrong(tmp_path: Path) -> None:
    """`status` reads the state directory of a configuration with an error elsewhere."""
    config = tmp_path / "config.toml"
    for named in (str(tmp_path / "state"), "~/state"):
        config.write_text(f'state_dir = "{named}"\nno_such_key = 1\n')
        config.chmod(0o600)
        found = read_configured(str(config), {"HOME": str(tmp_path)})
        assert found.status.error is not None
        assert found.directory == str(tmp_path / "state")
    config.write_text('state_dir = "relative"\nno_such_key = 1\n')
    assert read_configured(str(config), {"HOME": str(tmp_path)}).directory == state_directory()
    config.write_text('state_dir = "not closed\n')
    assert read_configured(str(config), {"HOME": str(tmp_path)}).directory == state_directory()
    for named in (str(tmp_path / "other"), "~/other"):
        variables = {"HOME": str(tmp_path), "SESSIOND_STATE_DIR": named}
        assert read_configured(str(config), variables).directory == str(tmp_path / "other")
