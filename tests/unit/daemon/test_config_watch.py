"""The files whose change is an edit of the configuration, and when an edit is finished. The test moves the clock."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sessiond.config import Loaded, load
from sessiond.daemon import config_watch
from sessiond.daemon.config_watch import EMPTY_QUIET, QUIET, ConfigWatch


class Clock:
    """A monotonic clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of the edits, which the test advances."""
    made = Clock()
    monkeypatch.setattr(config_watch, "time", made)
    return made


class Files:
    """A configuration: its file, a part in config.d, a token and certificates."""

    def __init__(self, base: Path, clock: Clock) -> None:
        self.clock = clock
        self.main, self.part = base / "config" / "config.toml", base / "config" / "config.d" / "a.toml"
        self.token, self.authorities = base / "secret" / "token", base / "tls" / "ca.pem"
        for path in (self.main, self.part, self.token, self.authorities):
            path.parent.mkdir(parents=True, exist_ok=True)
        endpoint = f'url = "https://x.example"\ntoken_file = "{self.token}"\nca_file = "{self.authorities}"\n'
        self.main.write_text(f"[endpoint]\n{endpoint}")
        self.part.write_text("rescan = 61\n")
        self.token.write_text("t")
        self.token.chmod(0o600)
        self.authorities.write_text("ca")

    def load(self) -> Loaded:
        """Read the configuration."""
        return load(str(self.main), {})

    def watch(self, before: ConfigWatch | None = None) -> ConfigWatch:
        """Return its watch; with the one before it, nothing is to be applied."""
        return ConfigWatch(self.load(), {}, str(self.main), before)

    def settled(self) -> ConfigWatch:
        """Return a watch that has seen the files as they are: the first edit is the reading of them."""
        watch = self.watch()
        watch.note_change()
        assert finish(watch, self.clock)
        return watch


@pytest.fixture
def files(tmp_path: Path, clock: Clock) -> Files:
    """Write a configuration."""
    return Files(tmp_path, clock)


def finish(watch: ConfigWatch, clock: Clock) -> bool:
    """Move the clock past the quiet time, and return whether the edit is finished."""
    clock.now += QUIET + 0.01
    return watch.finished()


def test_its_files_and_their_directories_belong_to_it(files: Files) -> None:
    """A directory counts because an event may name only that. Whatever else is in it does not count."""
    watch = files.watch()
    directories = [path.parent for path in (files.main, files.part, files.token, files.authorities)]
    for path in (
        files.main,
        files.part,
        files.token,
        files.authorities,
        files.part.with_name("new.toml"),
        *directories,
    ):
        assert watch.has(str(path)), path
    for path in (files.main.with_name("other.toml"), files.part.with_name("a.toml~"), files.main.parent.parent / "x"):
        assert not watch.has(str(path)), path
    assert {root.root.path for root in watch.roots()} == {str(path) for path in directories}


def test_a_link_is_watched_where_it_leads(files: Files, tmp_path: Path) -> None:
    """The link leads into a directory of dotfiles, for example, and the edit happens there."""
    real = tmp_path / "dotfiles" / "sessiond.toml"
    real.parent.mkdir()
    files.main.rename(real)
    files.main.symlink_to(real)
    watch = files.watch()
    assert watch.has(str(real))
    assert watch.has(str(files.main))
    assert str(real.parent) in {root.root.path for root in watch.roots()}


def test_the_variable_names_the_file(files: Files) -> None:
    """The variable and the option name the same file as for reading it; the option has precedence."""
    environ = {"SESSIOND_CONFIG": str(files.main)}
    assert ConfigWatch(files.load(), environ, None).has(str(files.main))
    other = str(files.main.with_name("other.toml"))
    assert ConfigWatch(Loaded(config=files.load().config), environ, other).has(other)


def test_without_a_change_there_is_no_edit(files: Files, clock: Clock) -> None:
    """An event without a change is no edit, and time alone makes none."""
    watch = files.settled()
    watch.note_change()
    assert watch.due() is None
    assert not finish(watch, clock)


def test_an_edit_is_finished_after_a_quiet_time(files: Files, clock: Clock) -> None:
    """Each further change restarts the quiet time."""
    watch = files.settled()
    for text in ("rescan = 62\n", "rescan = 634\n"):
        files.part.write_text(text)
        watch.note_change()
        assert watch.due() == pytest.approx(QUIET)
        assert not watch.finished()
        clock.now += QUIET / 2
        assert watch.due() == pytest.approx(QUIET / 2)
        assert not watch.finished()
        files.part.write_text(text + "# more\n")
        assert not finish(watch, clock), "it changed meanwhile"
        assert watch.due() == pytest.approx(QUIET)
        assert finish(watch, clock)
        assert watch.due() is None
        assert not watch.finished()
        watch.note_change()
        assert watch.due() is None


@pytest.mark.parametrize("name", ["main", "part", "token", "authorities"])
def test_each_file_can_be_edited(files: Files, clock: Clock, name: str) -> None:
    """An edit changes the text or the mode: a token file may become readable."""
    watch, path = files.settled(), getattr(files, name)
    with path.open("a") as file:
        file.write("\n")
    watch.note_change()
    assert finish(watch, clock)
    path.chmod(0o400)
    watch.note_change()
    assert finish(watch, clock)


def test_a_new_part_is_an_edit(files: Files, clock: Clock) -> None:
    """The removal of a part is an edit too, and empties nothing. A file that is not a part changes nothing."""
    watch, part = files.settled(), files.part.with_name("b.toml")
    part.with_name("b.txt").write_text("x")
    watch.note_change()
    assert watch.due() is None
    part.write_text("")
    watch.note_change()
    assert finish(watch, clock)
    files.part.unlink()
    watch.note_change()
    assert watch.emptied() is None
    assert finish(watch, clock)


@pytest.mark.parametrize("name", ["main", "part", "token"])
def test_a_file_that_is_empty_for_a_moment_is_not_applied(files: Files, clock: Clock, name: str) -> None:
    """An editor empties it and writes it a moment later. If it stays empty, that is reported."""
    watch, path = files.settled(), getattr(files, name)
    text = path.read_text()
    path.write_text("")
    watch.note_change()
    began = clock.now
    while clock.now + QUIET + 0.01 < began + EMPTY_QUIET:
        assert not finish(watch, clock)
        assert watch.due() == pytest.approx(QUIET)
    assert watch.emptied() == str(path)
    clock.now = began + EMPTY_QUIET + 0.01
    assert finish(watch, clock)
    assert watch.emptied() == str(path)
    path.write_text(text)
    watch.note_change()
    assert finish(watch, clock)
    assert watch.emptied() is None


def test_a_removed_file_counts_as_emptied(files: Files, clock: Clock) -> None:
    """A file is missing for a moment while it is saved by renaming."""
    watch = files.settled()
    files.main.unlink()
    watch.note_change()
    assert not finish(watch, clock)
    assert watch.emptied() == str(files.main)


@pytest.mark.parametrize("remove", [True, False])
def test_a_file_that_goes_right_after_it_was_read_counts_as_emptied(files: Files, clock: Clock, remove: bool) -> None:
    """Else its absence would be applied as an edit: without its endpoint, the daemon would use the built-in archive."""
    before, loaded = files.settled(), files.load()
    files.main.unlink() if remove else files.main.write_text("")
    watch = ConfigWatch(loaded, {}, str(files.main), before)
    watch.note_change()
    assert not finish(watch, clock)
    assert watch.emptied() == str(files.main)


def test_a_file_that_goes_right_before_it_is_read_is_not_applied(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default file need not exist, so without it the defaults would be loaded without an error."""
    watch, hidden = files.settled(), files.main.with_name("hidden")
    monkeypatch.setattr(sys.modules["sessiond.config.load"], "config_file", lambda: str(files.main))
    files.main.rename(hidden)
    gone = load(None, {})
    assert gone.config.endpoint.url == ""
    assert watch.emptied_in(gone) == str(files.main)
    hidden.rename(files.main)
    assert watch.emptied_in(load(None, {})) is None
    files.part.unlink()
    assert watch.emptied_in(load(None, {})) is None, "a part may be removed"


def test_an_empty_file_that_was_never_full_is_no_trouble(files: Files) -> None:
    """A user may begin with an empty file."""
    files.part.write_text("")
    assert files.watch().emptied() is None


def test_an_edit_before_the_watch_began_is_not_missed(files: Files) -> None:
    """The edit comes after the files were read and before they are watched. Given the earlier watch, only a difference
    counts.
    """
    before = files.settled()
    files.main.write_text(files.main.read_text() + "# more\n")
    loaded = files.load()
    after = ConfigWatch(loaded, {}, str(files.main), before)
    after.note_change()
    assert after.due() is not None
    first = files.watch()
    first.note_change()
    assert first.due() is not None, "without it nothing is known of the files"


def test_a_part_that_comes_right_after_the_files_were_read_is_an_edit(files: Files, clock: Clock) -> None:
    """Its event may have come already, so none would report it later."""
    before, loaded = files.settled(), files.load()
    (files.part.parent / "b.toml").write_text("rescan = 62\n")
    after = ConfigWatch(loaded, {}, str(files.main), before)
    after.note_change()
    assert finish(after, clock)


def test_a_file_that_is_watched_from_now_on_is_read_once_more(files: Files, tmp_path: Path, clock: Clock) -> None:
    """It may have changed since it was read. After that, nothing is an edit any more."""
    before = files.settled()
    token = tmp_path / "elsewhere" / "token"
    token.parent.mkdir()
    token.write_text("u")
    token.chmod(0o600)
    files.main.write_text(files.main.read_text().replace(str(files.token), str(token)))
    before.note_change()
    assert finish(before, clock)
    after = files.watch(before)
    after.note_change()
    assert finish(after, clock)
    last = files.watch(after)
    last.note_change()
    assert last.due() is None
    assert after.has(str(token))
    assert not after.has(str(files.token))
    token.write_text("v2")
    after.note_change()
    assert after.due() is not None
