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
from support.harness import CLAUDE, SESSION, TOKEN, Household, claude, encode, household
from support.opencode import write_database

PROJECTS = ".claude/projects"
HISTORY = b"\n# aider chat started at 2026-09-01 10:00:00\n\n> Aider v0.86.2  \n\n#### hello  \n\nHello.\n\n"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Household]:
    with household(tmp_path) as made:
        yield made


def sync(house: Household) -> int:
    return main(
        ["sync"],
        {
            "HOME": house.home,
            "SESSIOND_STATE_DIR": house.state,
            "SESSIOND_CONFIG": os.devnull,
            "SESSIOND_ENDPOINT__URL": house.endpoint.url,
            "SESSIOND_MACHINE_ID": "testbox",
            "SESSIOND_TOKEN": TOKEN,
        },
    )


def link(house: Household, relative: str, target: str) -> Path:
    """Make a link below the home to a path below the home."""
    made = Path(house.home, relative)
    made.parent.mkdir(parents=True, exist_ok=True)
    made.symlink_to(Path(house.home, target))
    return made


def troubles(house: Household) -> list[tuple[str, str]]:
    return [(trouble.path, trouble.reason) for trouble in house.spool.stats.troubles(10)]


def test_sessions_behind_a_linked_directory_are_captured_and_stay(house: Household) -> None:
    stored = house.write(f"disk/-home-dev-project/{SESSION}.jsonl", claude(SESSION, 1))
    link(house, f"{PROJECTS}/-home-dev-project", "disk/-home-dev-project")
    assert sync(house) == 0
    assert house.held(SESSION) == Path(stored).read_bytes()
    record = house.held_sessions()[SESSION]["record"]
    assert record["source_path"] == os.path.join(house.home, CLAUDE)
    house.write(f"disk/-home-dev-project/{SESSION}.jsonl", claude(SESSION, 2))
    assert sync(house) == 0
    assert house.held(SESSION) == Path(stored).read_bytes()
    assert [file.gone_ms for file in house.spool.catalog.files(1)] == [None]
    assert troubles(house) == []


def test_a_link_may_have_another_name_than_its_target(house: Household) -> None:
    stored = house.write("disk/a.jsonl", claude(SESSION, 1))
    link(house, CLAUDE, "disk/a.jsonl")
    assert sync(house) == 0
    assert sync(house) == 0
    assert house.held(SESSION) == Path(stored).read_bytes()
    assert troubles(house) == []


@pytest.mark.parametrize("name", ["opencode.db", "store.sqlite"])
def test_a_linked_database_is_read_once(name: str, house: Household) -> None:
    path = Path(house.home, "disk", name)
    write_database(path, 3)
    link(house, ".local/share/opencode/opencode.db", f"disk/{name}")
    Path(house.home, "disk/other.db").write_bytes(b"no database")
    assert sync(house) == 0
    assert sync(house) == 0
    assert len(house.held_sessions()) == 3
    assert troubles(house) == []


def test_a_target_is_captured_once_whatever_leads_there(house: Household) -> None:
    house.write(CLAUDE, claude(SESSION, 1))
    link(house, f"{PROJECTS}/second", f"{PROJECTS}/-home-dev-project")
    house.write(f"disk/-elsewhere/{SESSION[:-1]}9.jsonl", claude(SESSION[:-1] + "9", 1))
    link(house, f"{PROJECTS}/a", "disk/-elsewhere")
    link(house, f"{PROJECTS}/b", "disk/-elsewhere")
    assert sync(house) == 0
    files = house.spool.connection.execute("SELECT count(*) FROM file WHERE stream IS NOT NULL").fetchone()
    assert files == (2,)
    assert troubles(house) == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [("", "which contains"), (".claude", "which contains"), ("../state", "which contains")],
)
def test_a_link_to_what_contains_it_is_reported(target: str, reason: str, house: Household) -> None:
    house.write(CLAUDE, claude(SESSION, 1))
    made = link(house, f"{PROJECTS}/loop", target)
    assert sync(house) == 4
    ((path, trouble),) = troubles(house)
    assert path == str(made)
    assert trouble.startswith(NOT_FOLLOWED)
    assert reason in trouble
    made.unlink()
    assert sync(house) == 0
    assert troubles(house) == []


def test_links_to_nothing_are_ignored(house: Household) -> None:
    house.write(CLAUDE, claude(SESSION, 1))
    link(house, f"{PROJECTS}/dangling", "nowhere")
    link(house, f"{PROJECTS}/circle", f"{PROJECTS}/circle")
    link(house, f"{PROJECTS}/-home-dev-project/note.txt", CLAUDE)
    os.mkfifo(os.path.join(house.home, "pipe"))
    link(house, f"{PROJECTS}/-home-dev-project/{SESSION[:-1]}2.jsonl", "pipe")
    assert sync(house) == 0
    assert troubles(house) == []


def test_a_link_in_a_project_is_never_followed(house: Household) -> None:
    """Anyone who can write to the repository may have planted it."""
    project = Path(house.home, "loom")
    house.write(CLAUDE, claude(SESSION, 1, cwd=str(project)))
    house.write("secret/.aider.chat.history.md", HISTORY)
    link(house, "loom/.aider.chat.history.md", "secret/.aider.chat.history.md")
    assert sync(house) == 4
    assert {item["record"]["tool"] for item in house.held_sessions().values()} == {"claude-code"}
    ((path, trouble),) = troubles(house)
    assert path == str(project / ".aider.chat.history.md")
    assert trouble == f"{NOT_FOLLOWED}it is in a project"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_link_to_another_users_directory_is_not_followed(house: Household) -> None:
    house.write(f"disk/-x/{SESSION}.jsonl", claude(SESSION, 1))
    os.chown(os.path.join(house.home, "disk/-x"), 12345, -1)
    link(house, f"{PROJECTS}/-x", "disk/-x")
    assert sync(house) == 4
    assert troubles(house)[0][1] == f"{NOT_FOLLOWED}it leads to something of another user"
    assert house.held_sessions() == {}


def test_a_project_that_a_session_names_is_captured_in_the_same_sync(house: Household) -> None:
    project = Path(house.home, "loom")
    house.write(CLAUDE, claude(SESSION, 1, cwd=str(project)))
    house.write("loom/.aider.chat.history.md", HISTORY)
    assert sync(house) == 0
    assert {item["record"]["tool"] for item in house.held_sessions().values()} == {"claude-code", "aider"}


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
    with lab(tmp_path) as house:
        assert len(house.resources.roots) > 100
        house.look()
        statements: list[str] = []
        house.resources.spool.connection.set_trace_callback(statements.append)
        house.scan()
        assert len(statements) < 50
