"""Links below a tool's root: followed if the user made them, captured once, and reported if not followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond import state
from sessiond.cli import main
from sessiond.config import Config
from sessiond.daemon.resources import NOT_FOLLOWED, Resources, open_resources
from sessiond.sources.base import Watch
from sessiond.watch import Watcher
from support.capture import lab
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness, encode
from support.opencode import write_database

PROJECTS = ".claude/projects"
HISTORY = b"\n# aider chat started at 2026-09-01 10:00:00\n\n> Aider v0.86.2  \n\n#### hello  \n\nHello.\n\n"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def sync(harness: DaemonHarness) -> int:
    return main(
        ["sync"],
        {
            "HOME": harness.home,
            "SESSIOND_STATE_DIR": harness.state,
            "SESSIOND_CONFIG": os.devnull,
            "SESSIOND_ENDPOINT__URL": harness.endpoint.url,
            "SESSIOND_MACHINE_ID": "testbox",
            "SESSIOND_TOKEN": TOKEN,
        },
    )


def link(harness: DaemonHarness, relative: str, target: str) -> Path:
    """Make a link below the home to a path below the home."""
    made = Path(harness.home, relative)
    made.parent.mkdir(parents=True, exist_ok=True)
    made.symlink_to(Path(harness.home, target))
    return made


def troubles(harness: DaemonHarness) -> list[tuple[str, str]]:
    return [(trouble.path, trouble.reason) for trouble in harness.spool.stats.troubles(10)]


def test_sessions_behind_a_linked_directory_are_captured_and_stay(harness: DaemonHarness) -> None:
    stored = harness.write(f"disk/-home-dev-project/{SESSION}.jsonl", claude(SESSION, 1))
    link(harness, f"{PROJECTS}/-home-dev-project", "disk/-home-dev-project")
    assert sync(harness) == 0
    assert harness.held(SESSION) == Path(stored).read_bytes()
    record = harness.held_sessions()[SESSION]["record"]
    assert record["source_path"] == os.path.join(harness.home, CLAUDE)
    harness.write(f"disk/-home-dev-project/{SESSION}.jsonl", claude(SESSION, 2))
    assert sync(harness) == 0
    assert harness.held(SESSION) == Path(stored).read_bytes()
    assert [file.gone_ms for file in harness.spool.catalog.files(1)] == [None]
    assert troubles(harness) == []


def test_a_link_may_have_another_name_than_its_target(harness: DaemonHarness) -> None:
    stored = harness.write("disk/a.jsonl", claude(SESSION, 1))
    link(harness, CLAUDE, "disk/a.jsonl")
    assert sync(harness) == 0
    assert sync(harness) == 0
    assert harness.held(SESSION) == Path(stored).read_bytes()
    assert troubles(harness) == []


@pytest.mark.parametrize("name", ["opencode.db", "store.sqlite"])
def test_a_linked_database_is_read_once(name: str, harness: DaemonHarness) -> None:
    path = Path(harness.home, "disk", name)
    write_database(path, 3)
    link(harness, ".local/share/opencode/opencode.db", f"disk/{name}")
    Path(harness.home, "disk/other.db").write_bytes(b"no database")
    assert sync(harness) == 0
    assert sync(harness) == 0
    assert len(harness.held_sessions()) == 3
    assert troubles(harness) == []


def test_a_target_is_captured_once_whatever_leads_there(harness: DaemonHarness) -> None:
    harness.write(CLAUDE, claude(SESSION, 1))
    link(harness, f"{PROJECTS}/second", f"{PROJECTS}/-home-dev-project")
    harness.write(f"disk/-elsewhere/{SESSION[:-1]}9.jsonl", claude(SESSION[:-1] + "9", 1))
    link(harness, f"{PROJECTS}/a", "disk/-elsewhere")
    link(harness, f"{PROJECTS}/b", "disk/-elsewhere")
    assert sync(harness) == 0
    files = harness.spool.connection.execute("SELECT count(*) FROM file WHERE stream IS NOT NULL").fetchone()
    assert files == (2,)
    assert troubles(harness) == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [("", "which contains"), (".claude", "which contains"), ("../state", "which contains")],
)
def test_a_link_to_what_contains_it_is_reported(target: str, reason: str, harness: DaemonHarness) -> None:
    harness.write(CLAUDE, claude(SESSION, 1))
    made = link(harness, f"{PROJECTS}/loop", target)
    assert sync(harness) == 4
    ((path, trouble),) = troubles(harness)
    assert path == str(made)
    assert trouble.startswith(NOT_FOLLOWED)
    assert reason in trouble
    made.unlink()
    assert sync(harness) == 0
    assert troubles(harness) == []


def test_a_link_to_one_of_the_files_of_a_session_is_reported(harness: DaemonHarness) -> None:
    """The session's files are read together, and below its directory no link is followed."""
    folder = ".vibe/logs/session/session_20260101_100000_00000001"
    harness.write("disk/messages.jsonl", {"role": "user", "content": "weave"})
    made = link(harness, f"{folder}/messages.jsonl", "disk/messages.jsonl")
    assert sync(harness) == 4
    ((path, trouble),) = troubles(harness)
    assert (path, trouble.startswith(NOT_FOLLOWED), "one of the files of a session" in trouble) == (
        str(made),
        True,
        True,
    )


def test_links_to_nothing_are_ignored(harness: DaemonHarness) -> None:
    harness.write(CLAUDE, claude(SESSION, 1))
    link(harness, f"{PROJECTS}/dangling", "nowhere")
    link(harness, f"{PROJECTS}/circle", f"{PROJECTS}/circle")
    link(harness, f"{PROJECTS}/-home-dev-project/note.txt", CLAUDE)
    os.mkfifo(os.path.join(harness.home, "pipe"))
    link(harness, f"{PROJECTS}/-home-dev-project/{SESSION[:-1]}2.jsonl", "pipe")
    assert sync(harness) == 0
    assert troubles(harness) == []


def test_a_link_in_a_project_is_never_followed(harness: DaemonHarness) -> None:
    """Anyone who can write to the repository may have planted it."""
    project = Path(harness.home, "loom")
    harness.write(CLAUDE, claude(SESSION, 1, cwd=str(project)))
    harness.write("secret/.aider.chat.history.md", HISTORY)
    link(harness, "loom/.aider.chat.history.md", "secret/.aider.chat.history.md")
    assert sync(harness) == 4
    assert {item["record"]["tool"] for item in harness.held_sessions().values()} == {"claude-code"}
    ((path, trouble),) = troubles(harness)
    assert path == str(project / ".aider.chat.history.md")
    assert trouble == f"{NOT_FOLLOWED}it is in a project"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_link_to_another_users_directory_is_not_followed(harness: DaemonHarness) -> None:
    harness.write(f"disk/-x/{SESSION}.jsonl", claude(SESSION, 1))
    os.chown(os.path.join(harness.home, "disk/-x"), 12345, -1)
    link(harness, f"{PROJECTS}/-x", "disk/-x")
    assert sync(harness) == 4
    assert troubles(harness)[0][1] == f"{NOT_FOLLOWED}it leads to something of another user"
    assert harness.held_sessions() == {}


def test_a_project_that_a_session_names_is_captured_in_the_same_sync(harness: DaemonHarness) -> None:
    project = Path(harness.home, "loom")
    harness.write(CLAUDE, claude(SESSION, 1, cwd=str(project)))
    harness.write("loom/.aider.chat.history.md", HISTORY)
    assert sync(harness) == 0
    assert {item["record"]["tool"] for item in harness.held_sessions().values()} == {"claude-code", "aider"}


def test_a_running_daemon_watches_what_a_link_leads_to(tmp_path: Path) -> None:
    stored = tmp_path / "disk/-x" / f"{SESSION}.jsonl"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(encode(claude(SESSION, 1)))
    (tmp_path / "home" / PROJECTS).mkdir(parents=True)
    (tmp_path / "home" / PROJECTS / "-x").symlink_to(stored.parent)
    state.prepare(str(tmp_path / "state"))
    resources: Resources = open_resources(Config(state_dir=str(tmp_path / "state")), {"HOME": str(tmp_path / "home")})
    watcher = Watcher(resources.watched)
    watcher.start()
    try:
        watcher.wait(1)
        (root,) = [root for root in resources.watched if root.root.path == str(tmp_path / "home" / PROJECTS)]
        linked = str(tmp_path / "home" / PROJECTS / "-x")
        (new,) = resources.follow_links(root, [linked], watcher)
        assert (new.root.path, new.root.prefix, new.root.watch) == (linked, "-x/", Watch.TREE)
        assert resources.follow_links(root, [linked], watcher) == []
        watcher.wait(5)  # the scan of the new root
        with stored.open("ab") as file:
            file.write(encode(claude(SESSION, 2)))
        assert f"{linked}/{stored.name}" in watcher.wait(30).paths
    finally:
        watcher.close()
        resources.close()


def test_a_scan_of_hundreds_of_roots_makes_a_few_queries(tmp_path: Path) -> None:
    """Most roots are missing. A query for each of them at each scan is work that finds nothing."""
    with lab(tmp_path) as harness:
        assert len(harness.resources.roots) > 100
        harness.look()
        statements: list[str] = []
        harness.resources.spool.connection.set_trace_callback(statements.append)
        harness.scan()
        assert len(statements) < 50
