"""Restoring sessions of tools with ids of their own, and of documents: back and forth, and no message counts twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond.cli import main
from support.harness import DaemonHarness, daemon_harness
from support.two_machines import environment, second_machine

SECRET = "ghp_" + "1A2b3C4d5E6f7G8h9I0jKlMnOpQrStUvWxYz"
HISTORY = ".aider.chat.history.md"
CLINE = ".cline/data/sessions/1795358998818_v4hp2/1795358998818_v4hp2"
CONTINUE = ".continue/sessions/0198c0de-0000-7000-8000-000000000001.json"


@pytest.fixture
def first(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path / "first") as harness:
        os.makedirs(f"{harness.home}/src/engine")
        yield harness


@pytest.fixture
def second(tmp_path: Path, first: DaemonHarness) -> Iterator[DaemonHarness]:
    with second_machine(str(tmp_path / "second"), first) as harness:
        yield harness


def stored(harness: DaemonHarness) -> dict[str, dict[str, Any]]:
    """Map each machine that has a session at the endpoint to the session."""
    found = harness.get("/v1/sessions", limit=500).json()["sessions"]
    assert len({each["record"]["machine_id"] for each in found}) == len(found)
    return {each["record"]["machine_id"]: each for each in found}


def counted(harness: DaemonHarness) -> dict[str, int]:
    return {machine: each["record"]["message_count"] for machine, each in stored(harness).items()}


def restore(harness: DaemonHarness, source: DaemonHarness, *arguments: str) -> int:
    """Restore the session of another machine into the project here; return the exit code."""
    machine, other = harness.machine_id, source.machine_id
    identity = stored(harness)[other]["record"]["id"]
    directory = f"{harness.home}/src/engine"
    return main(["restore", identity, "--directory", directory, *arguments], environment(harness, machine))


def message(number: int, text: str = "hello") -> dict[str, Any]:
    """Make a message of Cline."""
    role = "user" if number % 2 else "assistant"
    words = f'<user_input mode="act">{text}</user_input>' if number % 2 else text
    return {
        "id": f"m{number}",
        "role": role,
        "content": [{"type": "text", "text": words}],
        "ts": 1787392800000 + number,
    }


def begin_cline(harness: DaemonHarness) -> None:
    native_id = os.path.basename(CLINE)
    manifest = {
        "version": 1,
        "session_id": native_id,
        "status": "running",
        "pid": 7,
        "cwd": "/home/dev/project",
        "metadata": {"systemPrompt": "long", "title": "Tides"},
    }
    document = {
        "version": 1,
        "sessionId": native_id,
        "messages": [message(1, SECRET), message(2)],
        "system_prompt": "long",
    }
    write(harness, f"{CLINE}.json", manifest)
    write(harness, f"{CLINE}.messages.json", document)
    harness.settle()


def write(harness: DaemonHarness, path: str, document: dict[str, Any]) -> None:
    """Write a document as its tool does: in place."""
    os.makedirs(os.path.dirname(f"{harness.home}/{path}"), exist_ok=True)
    Path(f"{harness.home}/{path}").write_text(json.dumps(document, indent=2))
    harness.now_ms += 60_000
    os.utime(f"{harness.home}/{path}", ns=(harness.now_ms * 1_000_000, harness.now_ms * 1_000_000))


def read(harness: DaemonHarness, path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{harness.home}/{path}").read_text())
    return found


def _shows_origin(second: DaemonHarness, origin: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that each command says which session is continued: of this machine, and as another machine reads it."""
    identity, environ = stored(second)["second"]["record"]["id"], environment(second)
    for known in (environ, environ | {"SESSIOND_STATE_DIR": f"{second.home}/nothing-captured"}):
        capsys.readouterr()
        assert main(["show", identity], known) == 0
        assert f"continues  {origin}, on testbox" in capsys.readouterr().out
        assert main(["ls", "--json", "--long", "--wait", "600"], known) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {line["record"]["id"]: line["continues"] for line in lines} == {
            identity: {"machine_id": "testbox", "id": origin},
            origin: None,
        }


def test_a_session_of_cline_goes_back_and_forth(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its id is unique on one machine only. Each machine counts its own messages, and the document keeps its fields."""
    begin_cline(first)
    assert restore(second, first) == 0
    second.settle()
    assert counted(first) == {"testbox": 2}
    document, path = read(second, f"{CLINE}.messages.json"), f"{CLINE}.messages.json"
    manifest = read(second, f"{CLINE}.json")
    assert (manifest["cwd"], manifest["status"]) == (f"{second.home}/src/engine", "completed")
    assert manifest["messages_path"] == f"{second.home}/{path}"
    document["messages"] += [message(3), message(4)]
    write(second, path, document)
    second.settle()
    second.settle()  # the manifest is captured once its messages are
    assert counted(first) == {"testbox": 2, "second": 2}
    origin = stored(first)["testbox"]["record"]["id"]
    assert stored(first)["second"]["continues"] == {"machine_id": "testbox", "id": origin}
    _shows_origin(second, origin, capsys)
    assert restore(first, second) == 0
    back = read(first, path)
    assert [each["id"] for each in back["messages"]] == ["m1", "m2", "m3", "m4"]
    assert SECRET in json.dumps(back)
    assert back["system_prompt"] == "long"
    first.settle()
    assert counted(first) == {"testbox": 2, "second": 2}
    assert restore(first, second) == 0


def test_a_document_with_other_messages_is_kept(
    first: DaemonHarness, second: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_cline(first)
    restore(second, first)
    document = read(second, f"{CLINE}.messages.json")
    document["messages"][1]["content"][0]["text"] = "changed"
    write(second, f"{CLINE}.messages.json", document)
    assert restore(second, first) == 1
    assert "exists with other content" in capsys.readouterr().err
    assert read(second, f"{CLINE}.messages.json") == document


def test_a_session_of_aider_goes_back_and_forth(first: DaemonHarness, second: DaemonHarness) -> None:
    """A history is appended to: neither machine has the session twice, and each counts its own messages."""
    text = f"\n# aider chat started at 2026-08-20 10:00:00\n\n#### say {SECRET}  \n\nhello\n\n"
    first.write(HISTORY, text.encode())
    first.settle()
    assert counted(first) == {"testbox": 2}
    path = f"src/engine/{HISTORY}"
    environ = {"AIDER_CHAT_HISTORY_FILE": f"{second.home}/{HISTORY}"}
    second.write(HISTORY, b"\n# aider chat started at 2026-08-20 09:00:00\n\n#### earlier  \n\nyes\n\n")
    second.settle()
    identity = stored(first)["testbox"]["record"]["id"]
    command = ["restore", identity, "--directory", f"{second.home}/src/engine"]
    assert main(command, environment(second, "second") | environ) == 0
    second.settle()
    assert counted(first) == {"testbox": 2, "second": 2}
    assert not os.path.exists(f"{second.home}/{path}")
    history = Path(f"{second.home}/{HISTORY}").read_bytes()
    assert history.count(b"# aider chat started at") == 2
    assert main(command, environment(second, "second") | environ) == 0
    assert Path(f"{second.home}/{HISTORY}").read_bytes() == history
    second.write(HISTORY, b"#### more  \n\nanswer\n\n")
    second.settle()
    found = first.get("/v1/sessions", limit=500).json()["sessions"]
    assert sorted(each["record"]["message_count"] for each in found) == [2, 2, 2]
    (continued,) = [each for each in found if each["continues"]]
    assert continued["continues"] == {"machine_id": "testbox", "id": identity}
    back = ["restore", continued["record"]["id"], "--directory", f"{first.home}/src/engine"]
    mine = {"AIDER_CHAT_HISTORY_FILE": f"{first.home}/{HISTORY}"}
    assert main(back, environment(first, "testbox") | mine) == 0
    assert Path(f"{first.home}/{HISTORY}").read_text() == f"{text}#### more  \n\nanswer\n\n"
    first.settle()
    found = first.get("/v1/sessions", limit=500).json()["sessions"]
    assert sorted(each["record"]["message_count"] for each in found) == [2, 2, 2]


def test_the_second_of_two_chats_of_one_second_is_no_copy_where_it_was_written(
    first: DaemonHarness, second: DaemonHarness
) -> None:
    """Aider's history was deleted. Restored alone, the chat is the first one of its second, and gets another id."""
    start = "\n# aider chat started at 2026-08-20 10:00:00\n\n"
    first.write(HISTORY, f"{start}#### one  \n\nyes\n\n{start}#### two  \n\nno\n\n".encode())
    first.settle()
    (identity,) = [
        each["record"]["id"] for each in first.get("/v1/sessions").json()["sessions"] if each["title"] == "two"
    ]
    os.unlink(f"{first.home}/{HISTORY}")
    first.scan()
    environ = environment(first, "testbox") | {"AIDER_CHAT_HISTORY_FILE": f"{first.home}/{HISTORY}"}
    assert main(["restore", identity, "--directory", f"{first.home}/src/engine"], environ) == 0
    first.settle()
    assert len(first.get("/v1/sessions").json()["sessions"]) == 2
    first.write(HISTORY, b"#### more  \n\nanswer\n\n")
    first.settle()
    (continued,) = [each for each in first.get("/v1/sessions").json()["sessions"] if each["continues"]]
    assert continued["continues"] == {"machine_id": "testbox", "id": identity}
    assert continued["record"]["message_count"] == 2


def test_a_session_of_continue_goes_back_and_forth(first: DaemonHarness, second: DaemonHarness) -> None:
    """The session that is here already is resumed as it is, however the tool has formatted its document."""
    history = [{"message": {"role": "user", "content": SECRET}}, {"message": {"role": "assistant", "content": "yes"}}]
    document = {"sessionId": Path(CONTINUE).stem, "title": "Tides", "workspaceDirectory": "/home/dev/project"}
    write(first, CONTINUE, {**document, "history": history})
    first.settle()
    assert restore(first, first) == 0
    assert read(first, CONTINUE) == {**document, "history": history}
    assert restore(second, first) == 0
    there = read(second, CONTINUE)
    there["history"].append({"message": {"role": "user", "content": "more"}})
    second.now_ms = first.now_ms + 3_600_000
    write(second, CONTINUE, there)
    second.settle()
    assert counted(first) == {"testbox": 2, "second": 1}
    assert restore(first, second) == 0
    assert read(first, CONTINUE) == {**document, "history": [*history, there["history"][-1]]}
    first.settle()
    assert counted(first) == {"testbox": 2, "second": 1}
