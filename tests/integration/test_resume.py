"""Resuming: the user picks a session of the project from any machine, and its tool starts with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.cli import main
from sessiond.cli.resume import project_name
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness
from support.terminal import Terminal
from support.two_machines import begin, environment, restore, restored_path, second_machine

OTHER = SESSION[:-1] + "9"


@pytest.fixture
def first(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path / "first") as harness:
        yield harness


@pytest.fixture
def second(tmp_path: Path, first: DaemonHarness) -> Iterator[DaemonHarness]:
    with second_machine(str(tmp_path / "second"), first) as harness:
        yield harness


def with_claude(harness: DaemonHarness) -> dict[str, str]:
    """Install a program that prints how it was called; return the environment."""
    program = Path(harness.home, "bin", "claude")
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "started with $* in $PWD"\n')
    program.chmod(0o755)
    return {**environment(harness), "PATH": f"{program.parent}:{os.defpath}"}


def test_the_user_picks_a_session_and_its_tool_starts(first: DaemonHarness, second: DaemonHarness) -> None:
    """The list has the sessions of the project of any machine, the latest first; a wrong answer is asked again."""
    project = f"{second.home}/work/project"
    os.makedirs(f"{project}/.git")
    begin(first)
    other = CLAUDE.replace(SESSION, OTHER)
    first.write(other, claude(OTHER, 30, text="Find the shell"), claude(OTHER, 31, role="assistant"))
    first.settle()
    with Terminal(["resume", "--directory", project], with_claude(second), columns=200, rows=24) as terminal:
        terminal.until(lambda: "[1]:" in terminal.text)
        shown = [line.split()[0] + line[-14:] for line in terminal.text.splitlines()[1:3]]
        terminal.type("7\n")
        terminal.until(lambda: terminal.text.count("[1]:") == 2)
        terminal.type("1\n")
        assert terminal.end() == 0
        written = terminal.text
    assert shown[0] == "1Find the shell"
    assert f"started with --resume {OTHER} in {project}" in written
    assert [names for _, _, names in os.walk(f"{second.home}/.claude") if names] == [[f"{OTHER}.jsonl"]]


def test_a_new_machine_is_set_up_and_resumes_a_session(first: DaemonHarness, tmp_path: Path) -> None:
    """One command configures the endpoint and offers the sessions of all projects; the tool starts here."""
    begin(first)
    harness = DaemonHarness(str(tmp_path / "new"), first.endpoint)
    harness.close()
    token = Path(harness.home, "token")
    token.write_text(TOKEN)
    token.chmod(0o600)
    environ = {"HOME": harness.home, "PATH": with_claude(harness)["PATH"]}
    words = [
        "init",
        "--endpoint",
        harness.endpoint.url,
        "--token-file",
        str(token),
        "--yes",
        "--no-service",
        "--restore",
    ]
    with Terminal(words, environ, columns=200) as terminal:
        terminal.until(lambda: "[1]:" in terminal.text)
        terminal.type("\n")
        assert terminal.end() == 0
        assert f"started with --resume {SESSION} in {os.getcwd()}" in terminal.text
    assert harness.endpoint.url in Path(harness.home, ".config/sessiond/config.toml").read_text()


def test_no_session_is_a_valid_choice(first: DaemonHarness, second: DaemonHarness) -> None:
    begin(first)
    with Terminal(["resume", "--all"], with_claude(second)) as terminal:
        terminal.until(lambda: "[1]:" in terminal.text)
        terminal.type("q\n")
        assert terminal.end() == 0
    assert not os.path.exists(f"{second.home}/.claude")


def test_without_a_terminal_the_list_has_ids(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(first)
    assert main(["resume", "--all"], environment(second)) == 2
    captured = capsys.readouterr()
    assert SESSION in captured.out
    assert "sessiond resume ID" in captured.err


def test_an_empty_list_says_how_to_see_more(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(first)
    nowhere = f"{second.home}/src/engine"
    assert main(["resume", "--directory", nowhere], environment(second)) == 1
    assert "resume --all" in capsys.readouterr().err
    assert main(["pause"], environment(second)) == 0
    assert main(["resume", "--directory", nowhere], environment(second)) == 1
    assert "sessiond unpause" in capsys.readouterr().err


def test_nothing_is_written_for_a_tool_that_is_not_installed(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(first)
    assert main(["resume", SESSION], {**environment(second), "PATH": "/nonexistent"}) == 1
    assert "claude is not installed here" in capsys.readouterr().err
    assert not os.path.exists(f"{second.home}/.claude")


def test_a_session_of_this_machine_resumes_where_it_is(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the directory of the command, a second file of the session would become another session."""
    begin(first)
    assert restore(second) == 0
    assert main(["restore", SESSION], environment(second)) == 0
    assert f"cd {second.home}/src/engine && claude" in capsys.readouterr().out
    os.makedirs(f"{second.home}/elsewhere")
    assert main(["restore", SESSION, "--directory", f"{second.home}/elsewhere"], environment(second)) == 1
    captured = capsys.readouterr().err
    assert "is here already, for another directory" in captured
    assert restored_path(second) in captured


def test_messages_of_all_machines_are_counted_in_one_row(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(first)
    restore(second)
    second.write(os.path.relpath(restored_path(second), second.home), claude(SESSION, 3))
    second.settle()
    capsys.readouterr()
    main(["resume", "--all"], environment(second))
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == [SESSION]
    assert " 3 " in rows[0]


def test_the_built_in_archive_is_read_while_the_endpoint_does_not_answer(tmp_path: Path) -> None:
    """It may have sessions that were not copied to the endpoint, and that the tool has deleted."""
    with daemon_harness(tmp_path) as harness:
        begin(harness)
        harness.close()
        os.rename(tmp_path / "endpoint", f"{harness.state}/archive")
        os.unlink(f"{harness.home}/{CLAUDE}")
        environ = environment(harness) | {
            "SESSIOND_ENDPOINT__URL": "http://127.0.0.1:9",
            "SESSIOND_MACHINE_ID": "testbox",
        }
        os.makedirs(f"{harness.home}/engine")
        assert main(["restore", SESSION, "--directory", f"{harness.home}/engine"], environ) == 0
        found = [name for _, _, names in os.walk(f"{harness.home}/.claude") for name in names]
        assert found == [f"{SESSION}.jsonl"]


def test_a_session_that_only_the_outbox_has_is_restored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tool deleted it before an endpoint answered. What the endpoint alone has can't be restored meanwhile."""
    with daemon_harness(tmp_path) as harness:
        os.makedirs(f"{harness.home}/engine")
        environ = environment(harness) | {
            "SESSIOND_ENDPOINT__URL": "http://127.0.0.1:9",
            "SESSIOND_MACHINE_ID": "testbox",
        }
        command = ["restore", SESSION, "--directory", f"{harness.home}/engine"]
        token = "ghp_" + "1A2b3C4d5E6f7G8h9I0jKlMnOpQrStUvWxYz"
        path = harness.write(CLAUDE, claude(SESSION, 1, text=token), claude(SESSION, 2, role="assistant"))
        written = Path(path).read_bytes()
        harness.scan()
        os.unlink(path)
        harness.scan()
        assert main(["show", SESSION], environ) == 0
        assert main(command, environ) == 0
        (restored,) = Path(harness.home, ".claude").rglob("*.jsonl")
        assert restored.read_bytes() == written.replace(token.encode(), b"*" * len(token))
        os.unlink(restored)
        harness.settle()
        capsys.readouterr()
        assert main(command, environ) != 0
        assert "only the endpoint has all of stream 'main'" in capsys.readouterr().err


def test_a_session_of_this_machine_is_resumed_without_an_endpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written: the tool has it."""
    with daemon_harness(tmp_path) as harness:
        begin(harness)
        environ = environment(harness) | {
            "SESSIOND_ENDPOINT__URL": "http://127.0.0.1:9",
            "SESSIOND_MACHINE_ID": "testbox",
        }
        directory = f"{harness.home}/engine"
        os.makedirs(directory)
        project = "".join(each if each.isalnum() and each.isascii() else "-" for each in directory)
        folder = f"{harness.home}/.claude/projects/{project}"
        os.rename(os.path.dirname(f"{harness.home}/{CLAUDE}"), folder)
        harness.settle()
        assert main(["restore", SESSION, "--directory", directory], environ) == 0
        shown = capsys.readouterr()
        assert "nothing to do" in shown.out
        assert f"claude --resume {SESSION}" in shown.out
        assert "reading what this machine has instead" in shown.err


def test_a_tool_without_a_recipe_says_why_and_offers_a_handoff(
    first: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    first.write(CLAUDE.replace(".claude", ".openclaude"), claude(SESSION, 1), claude(SESSION, 2, role="assistant"))
    first.settle()
    assert main(["restore", SESSION], environment(first, "testbox")) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert "a session of openclaude can't be restored: it has not been shown yet that openclaude" in shown
    assert f"sessiond export --format handoff {SESSION[:8]}" in shown


def test_a_project_is_named_after_its_git_work_tree(tmp_path: Path) -> None:
    (tmp_path / "engine" / "src" / "deep").mkdir(parents=True)
    assert project_name(f"{tmp_path}/engine/src/deep") == "deep"
    (tmp_path / "engine" / ".git").write_text(json.dumps("gitdir: elsewhere"))
    assert project_name(f"{tmp_path}/engine/src/deep") == "engine"
