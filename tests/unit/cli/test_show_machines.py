"""`sessiond show` and `export` of sessions that another machine captured, and `--follow`."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tracemalloc
import types
import uuid
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sessiond.cli import follow as following
from sessiond.cli import main, show
from sessiond.cli.conversation import Library, LocalReader, Position, Reader, StreamRef, main_streams
from sessiond.cli.streams import tool_bytes
from sessiond.cli.threads import Threads, threads
from sessiond.config import Config, load
from sessiond.errors import ReadError
from sessiond.redact.examples import expand
from sessiond.session import Item, ItemKind, Speaker
from sessiond.spool import Spool
from sessiond.transcript import Merger, Place, Placed, Step, Texts, Thread, converse
from sessiond.transcript.text import Style
from support.harness import CLAUDE, SESSION, TOKEN, DaemonHarness, claude, daemon_harness
from support.sample_tree import build

AGENT = CLAUDE.removesuffix(".jsonl") + "/subagents/agent-a1.jsonl"
SECRET = expand("ghp_<A36>", 1)
SAMPLES = Path(__file__).parents[2] / "conformance/samples"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    """The machine that captured the session, with a secret that was stored as it was."""
    with daemon_harness(tmp_path) as made:
        made.address = made.uploading.address = made.endpoint.url
        call = {"type": "tool_use", "id": "t1", "name": "Agent", "input": {"prompt": "Count the threads"}}
        answer = claude(SESSION, 2, role="assistant", text="I will ask.")
        answer["message"]["content"].append(call)
        made.write(CLAUDE, claude(SESSION, 1, text=f"Weave with {SECRET}"), answer)
        made.write(AGENT, claude(SESSION, 3, role="assistant", text="Seven threads", agentId="a1", isSidechain=True))
        made.settle()
        yield made


def run(harness: DaemonHarness, *arguments: str, state: str | None = None, url: str | None = None) -> int:
    """Run a command on this machine, or with `state` on another one that has captured nothing."""
    return main(arguments, environ(harness, state=state, url=url))


def environ(harness: DaemonHarness, *, state: str | None = None, url: str | None = None) -> dict[str, str]:
    return {
        "HOME": harness.home if state is None else state,
        "SESSIOND_STATE_DIR": state or harness.state,
        "SESSIOND_CONFIG": os.devnull,
        "SESSIOND_ENDPOINT__URL": url or harness.endpoint.url,
        "SESSIOND_TOKEN": TOKEN,
        "TZ": "UTC",
    }


@pytest.mark.parametrize("words", [["--items"], ["--raw"], ["--raw", "agents/a1"]])
def test_a_session_reads_the_same_on_every_machine(
    harness: DaemonHarness, tmp_path: Path, words: list[str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Byte for byte, and masked even if it was stored readable."""
    streams = [each.name for each in harness.spool.catalog.streams(1)]
    words = [next(name for name in streams if name != "main") if word.startswith("agents") else word for word in words]
    assert run(harness, "show", SESSION, *words) == 0
    here = capfdbinary.readouterr().out
    assert run(harness, "show", SESSION[:12], *words, state=str(tmp_path / "other")) == 0
    there = capfdbinary.readouterr().out
    assert here == there != b"" and SECRET.encode() not in there


def test_the_conversation_of_another_machine_has_its_subagent_at_the_call(
    harness: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(harness, "show", SESSION, state=str(tmp_path / "other")) == 0
    shown = capsys.readouterr().out
    assert "machine    testbox, read from the endpoint\n" in shown and "endpoint   has everything\n" in shown
    assert [shown.index(text) for text in ("Weave with", "I will ask.", "> Agent", "Seven threads")] == sorted(
        shown.index(text) for text in ("Weave with", "I will ask.", "> Agent", "Seven threads")
    )
    assert SECRET not in shown
    assert run(harness, "show", SESSION, "--json", state=str(tmp_path / "other")) == 0
    view = json.loads(capsys.readouterr().out)
    assert not view["this_machine"] and "main" in {each["name"] for each in view["streams"]}
    assert all(each["captured"] == each["acknowledged"] > 0 for each in view["streams"])


@pytest.mark.parametrize("format", ["md", "html", "json", "atif", "handoff"])
def test_a_session_of_another_machine_is_exported(
    harness: DaemonHarness, tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(harness, "export", SESSION, "--format", format, state=str(tmp_path / "other")) == 0
    shown = capsys.readouterr().out
    assert "Seven threads" in shown and SECRET not in shown


def test_an_id_that_no_machine_has_is_not_found(
    harness: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text that is no id is never sent to the endpoint. Of several ids that begin alike, the first are named."""
    for text in ("5f2", "tide", "", " "):
        assert run(harness, "show", text, state=str(tmp_path / "other")) == 1
        assert capsys.readouterr().err == f"sessiond: no session {text!a}\n  `sessiond ls` lists them\n"
    harness.write(CLAUDE.replace(SESSION, SESSION[:-1] + "9"), claude(SESSION[:-1] + "9", 1))
    harness.settle()
    assert run(harness, "show", SESSION[:9], state=str(tmp_path / "other")) == 1
    assert "several sessions start with" in capsys.readouterr().err
    assert run(harness, "show", SESSION, state=str(tmp_path / "other")) == 0


def test_without_an_endpoint_a_session_of_this_machine_is_shown(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """An id that it does not know says why it can't be looked up."""
    nowhere = "http://127.0.0.1:9"
    assert run(harness, "show", SESSION, "--items", url=nowhere) == 0
    capsys.readouterr()
    assert run(harness, "show", "abc", url=nowhere) != 0
    said = capsys.readouterr().err
    assert "can't be reached" in said and "this machine has no session 'abc'" in said


def test_the_tools_own_file_is_written_as_it_is(
    harness: DaemonHarness, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Masked, unless asked not to. Another machine does not have it."""
    content = (Path(harness.home) / CLAUDE).read_bytes()
    assert run(harness, "show", SESSION, "--raw", "--from", "tool", "--unmasked") == 0
    assert capfdbinary.readouterr().out == content
    assert run(harness, "show", SESSION, "--raw", "--from", "tool") == 0
    masked = capfdbinary.readouterr().out
    assert masked == content.replace(SECRET.encode(), b"*" * len(SECRET))
    assert run(harness, "show", SESSION, "--raw", "--from", "tool", state=str(tmp_path / "other")) == 1
    assert b"on machine testbox" in capfdbinary.readouterr().err
    assert run(harness, "show", SESSION, "--from", "tool") == 2
    os.unlink(os.path.join(harness.home, CLAUDE))
    harness.settle()
    assert run(harness, "show", SESSION, "--raw", "--from", "tool") == 1
    assert b"the tool has deleted its file" in capfdbinary.readouterr().err


def test_a_file_of_a_session_that_is_a_folder_is_chosen(
    harness: DaemonHarness, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The error has the command and the names; a link in the folder is no file of the session."""
    name = "0000000d00004000800000000000000d"
    folder = Path(harness.home, ".openhands/conversations", name)
    shutil.copytree(SAMPLES / "openhands/cli-1.16/.openhands/conversations" / name, folder)
    event = next(each.name for each in sorted(folder.glob("events/*.json")))
    (folder / "events/our notes.txt").write_text(f"We used {SECRET}")
    (folder / "link.json").symlink_to(folder / "base_state.json")
    harness.settle()
    show = ("show", "0000000d", "--from", "tool", "--raw")
    for words in (show, (*show, "main")):
        assert run(harness, *words) == 1
        said = capfdbinary.readouterr().err.decode()
        assert said.startswith(
            "sessiond: the tool keeps this session in a folder of 6 files: choose one\n"
            "  sessiond show 0000000d --from tool --raw FILE, where FILE is one of these:\n"
        )
        assert f"\n  events/{event}\n" in said
        assert "\n  'events/our notes.txt'\n" in said
        assert "link.json" not in said
    assert run(harness, *show, f"events/{event}", "--unmasked") == 0
    assert capfdbinary.readouterr().out == (folder / "events" / event).read_bytes()
    assert run(harness, *show, "events/our notes.txt") == 0
    assert capfdbinary.readouterr().out == f"We used {'*' * len(SECRET)}".encode()
    for other in ("link.json", "../base_state.json", "events"):
        assert run(harness, *show, other) == 1
        assert b"no stream" in capfdbinary.readouterr().err


CHILD = "01a2037e-0452-7000-8000-000000000452"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_subagent_with_a_session_of_its_own_is_shown_at_its_call(
    elsewhere: bool, harness: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the first result that has its id. Another machine knows of it from the endpoint."""
    build("codex/0.100-subagent", harness.home)
    (rollout,) = Path(harness.home).rglob("rollout-*0451.jsonl")
    with rollout.open("a") as file:
        for second, made in enumerate(
            (
                {"type": "function_call", "name": "spawn_agent", "arguments": "{}", "call_id": "call_1"},
                {"type": "function_call_output", "call_id": "call_1", "output": json.dumps({"agent_id": CHILD})},
                {
                    "type": "function_call",
                    "name": "wait",
                    "arguments": json.dumps({"ids": [CHILD]}),
                    "call_id": "call_2",
                },
                {"type": "function_call_output", "call_id": "call_2", "output": "helped"},
            )
        ):
            record = {"timestamp": f"2026-04-01T10:00:2{second}.000Z", "type": "response_item", "payload": made}
            file.write(json.dumps(record) + "\n")
    harness.settle()
    state = str(tmp_path / "other") if elsewhere else None
    assert run(harness, "show", "01a2037e-0451", state=state) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"child      {CHILD}  continue" in lines
    result = next(number for number, line in enumerate(lines) if line.startswith("  = {"))
    assert lines[result + 1] == f"  child {CHILD}  continue"
    assert sum(f"child {CHILD}" in line for line in lines) == 1
    assert run(harness, "show", "01a2037e-0451", "--json", state=state) == 0
    assert [each["id"] for each in json.loads(capsys.readouterr().out)["children"]] == [CHILD]
    assert run(harness, "show", SESSION, "--json", state=state) == 0
    assert json.loads(capsys.readouterr().out)["children"] == []


def test_a_subagent_of_gemini_is_shown_at_its_call(harness: DaemonHarness, capsys: pytest.CaptureFixture[str]) -> None:
    """By the id of the agent, which the call has."""
    child = "00000021-0000-4000-8000-000000000021"
    build("gemini-cli/0.61-subagent", harness.home)
    (chat,) = Path(harness.home).rglob("session-*00000020.jsonl")
    named = chat.read_text().replace(
        '"name":"invoke_agent","args"', f'"agentId":"{child}","name":"invoke_agent","args"'
    )
    chat.write_text(named)
    harness.settle()
    assert run(harness, "show", "00000020") == 0
    lines = capsys.readouterr().out.splitlines()
    (call,) = (number for number, line in enumerate(lines) if line == "  > invoke_agent count the threads")
    assert lines[call + 1] == f"  child {child}  Your task is to count the threads"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_subagent_of_droid_is_shown_at_its_call(
    harness: DaemonHarness, tmp_path: Path, elsewhere: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the id of the call, which only the first record of the child has."""
    child = "5f000002-0000-4000-8000-000000000002"
    build("droid/flat-subagent", harness.home)
    harness.settle()
    assert run(harness, "show", "5f000001", state=str(tmp_path / "other") if elsewhere else None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[lines.index("  > Task") + 1] == f"  child {child}  weave"
    assert sum(f"  child {child}" in line for line in lines) == 1


def test_a_child_that_begins_with_a_long_record_is_read_in_part(
    harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head of a session is short, and a message may have many MiB."""
    child = "5f000002-0000-4000-8000-000000000002"
    build("droid/flat-subagent", harness.home)
    harness.settle()
    monkeypatch.setattr(show, "LONGEST_FIRST", 100)
    pieces = iter([b"x" * 60] * 5)
    monkeypatch.setattr(LocalReader, "content", lambda *_: pieces)
    assert show._first_record(Library(harness.spool, Config(), environ(harness), None), child) == b"x" * 120
    assert len(list(pieces)) == 3


def test_a_database_of_a_tool_is_not_written_as_bytes(
    harness: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tool may be writing it, and part of it is in the write-ahead log. The records are there all the same."""
    path = os.path.join(harness.home, ".warp-like.db")
    with pytest.raises(ReadError, match="is a database"):
        next(tool_bytes(Config(), environ(harness), os.path.join(harness.home, ".local/share/opencode/opencode.db")))
    with pytest.raises(ReadError, match="no such file"):
        next(tool_bytes(Config(), environ(harness), path))


@pytest.mark.parametrize("here", [True, False])
def test_follow_prints_what_is_added_and_nothing_twice(
    harness: DaemonHarness, tmp_path: Path, here: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the machine of the session and on another one."""
    added = iter(["Tie a knot", "", "Cut the yarn"])

    def sleep(_: float) -> None:
        text = next(added, None)
        if text is None:
            raise KeyboardInterrupt
        if text:
            harness.write(CLAUDE, claude(SESSION, 10 + len(text), text=text))
            harness.settle()

    config = load(None, environ(harness)).config if here else Config()
    spool = Spool(harness.state, readonly=True) if here else None
    library = Library(spool, config, environ(harness), None)
    if not here:
        library = Library(
            None, load(None, environ(harness, state=str(tmp_path / "other"))).config, environ(harness), None
        )
    with pytest.raises(KeyboardInterrupt):
        following.follow(library.find(SESSION), Style(width=None, color=False, full=False), sleep)
    library.close()
    if spool is not None:
        spool.close()
    shown = capsys.readouterr().out
    texts = ("Weave with", "Seven threads", "Tie a knot", "Cut the yarn")
    assert [shown.count(text) for text in texts] == [1, 1, 1, 1]
    assert [shown.index(text) for text in texts] == sorted(shown.index(text) for text in texts)


class Counting:
    """Passes everything on to a reader, and notes from where its main stream was read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.starts: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    def content(self, name: str, start: int = 0) -> Iterator[bytes]:
        self.starts += [start] if name == "main" else []
        return self._reader.content(name, start)


@pytest.mark.parametrize("here", [True, False])
def test_following_reads_only_what_was_added(harness: DaemonHarness, tmp_path: Path, here: bool) -> None:
    """And all of it again once the tool has rewritten the file; what is shown is the same."""
    path = Path(harness.home, CLAUDE)
    config = load(None, environ(harness, state="" if here else str(tmp_path / "other"))).config
    with ExitStack() as stack:
        spool = stack.enter_context(closing(Spool(harness.state, readonly=True))) if here else None
        library = stack.enter_context(closing(Library(spool, config, environ(harness), None)))
        reader = Counting(library.find(SESSION))
        followed, length = Threads(reader), path.stat().st_size
        list(followed.read(reader.state()))
        harness.write(CLAUDE, claude(SESSION, 30, text="Tie a knot"))
        harness.settle()
        list(followed.read(reader.state()))
        list(followed.read(reader.state()))
        assert reader.starts == [0, length]
        path.write_bytes(path.read_bytes().replace(b"Weave with", b"Woven with"))
        harness.settle()
        found = list(followed.read(reader.state()))
        assert reader.starts == [0, length, 0]
        texts = [[placed.whole.text for placed in each.items] for each in found]
        assert texts == [[placed.whole.text for placed in each.items] for each in threads(reader)]
        assert "Woven with" in texts[0][0] and texts[0][-1] == "Tie a knot"


def test_a_document_that_is_followed_frees_what_was_read_before() -> None:
    """A tool may rewrite its document every second. What was shown is not shown again, wherever it is now."""
    growth = following.Growth()

    def grow(*offsets: int) -> tuple[list[str], weakref.ref[Texts]]:
        texts = Texts()
        merger = Merger(texts)
        for offset in offsets:
            item = Item(kind=ItemKind.MESSAGE, speaker=Speaker.USER, text=f"{offset} " * 200)
            merger.add(Placed(Place(offset, 9), item))
        shown = growth.added(converse([Thread("main", True, merger.items)]))
        return [step.placed.whole.text.split()[0] for step in shown], weakref.ref(texts)

    first, texts = grow(0, 10)
    assert first == ["0", "10"]
    assert grow(0, 20)[0] == ["20"]
    assert grow(0)[0] == []
    gc.collect()
    assert texts() is None
    assert grow(0, 10, 20, 30)[0] == ["30"]


def test_what_was_printed_is_not_kept() -> None:
    """A session may have half a million items: what following keeps of them does not grow with their number."""

    def steps(count: int) -> Iterator[Step]:
        for number in range(count):
            item = Item(kind=ItemKind.MESSAGE, speaker=Speaker.USER, text=f"message {number} " * 9)
            yield Step(Thread("main", True, []), 0, Placed(Place(number // 2 * 9, 9), item))

    growth = following.Growth()
    tracemalloc.start()
    try:
        assert sum(1 for _ in growth.added(steps(1000))) == 1000
        before, _ = tracemalloc.get_traced_memory()
        assert sum(1 for _ in growth.added(steps(20_001))) == 19_001
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000 and peak - before < 100_000
    assert sum(1 for _ in growth.added(steps(20_001))) == 0


def test_a_document_that_became_shorter_is_followed_on() -> None:
    """The tool has summed up the messages before. What it adds then is shown, though it once had more."""
    growth = following.Growth()

    def grow(*texts: str) -> list[str]:
        items = [
            Placed(Place(number * 9, 9), Item(kind=ItemKind.MESSAGE, speaker=Speaker.USER, text=text))
            for number, text in enumerate(texts)
        ]
        return [step.placed.whole.text for step in growth.added(converse([Thread("main", True, items)]))]

    many = [f"message {number}" for number in range(500)]
    assert grow(*many) == many
    assert grow() == grow(*many) == []  # its file was being replaced
    assert grow("message 0", "a summary") == []
    assert grow("message 0", "a summary", "Tie a knot", "Cut") == ["Tie a knot", "Cut"]
    assert grow("message 0", "a summary", "Tie a knot", "Cut the yarn") == [" the yarn"]
    assert grow("message 0", "a summary", "Tie a knot", "Cut the yarn", *many) == many


def test_a_line_that_is_not_complete_is_read_again() -> None:
    """It is shown as soon as it is there, and whole once it is."""
    lines = [claude(SESSION, number, text=text) for number, text in enumerate(("Weave", "Tie a knot"))]
    whole = "".join(f"{json.dumps(each)}\n" for each in lines).encode()
    parts = [whole[:-40], whole, whole]

    class Growing:
        record = types.SimpleNamespace(tool="claude-code")
        scratch = None

        def streams(self) -> list[StreamRef]:
            return [StreamRef("main", True, None)]

        def is_verbatim(self, name: str) -> bool:
            return True

        def content(self, name: str, start: int = 0) -> Iterator[bytes]:
            yield parts.pop(0)[start:]

    followed = Threads(Growing())  # type: ignore[arg-type]
    shown = [
        [placed.whole.text for placed in thread.items]
        for length in (len(whole) - 40, len(whole))
        for thread in followed.read({"main": Position(0, length)})
    ]
    assert len(shown[0]) == 2 and "damaged" in shown[0][1]
    assert shown[1] == ["Weave", "Tie a knot"]


def test_subagents_are_told_from_the_main_thread_by_their_names() -> None:
    assert main_streams(["agents/a", "main", "usage", "prompts"]) == {"main", "usage"}
    assert main_streams(["prompts"]) == {"prompts"}
    assert main_streams(["chat", "subagent-1", "agents/x"]) == {"chat"}
    assert main_streams([]) == set()


def test_several_copies_of_a_session_give_the_one_that_was_active_last(harness: DaemonHarness) -> None:
    """A session that was restored and continued is at the endpoint once for each machine."""
    from sessiond.cli.remote import find_stored

    old = harness.client.session(harness.machine_id, uuid.UUID(SESSION))
    harness.close()
    harness.machine_id = "second"
    harness.state += "2"
    os.makedirs(harness.state, mode=0o700)
    harness.open()
    harness.write(CLAUDE, claude(SESSION, 90, text="On the second machine"))
    harness.settle()
    found = find_stored(harness.client, SESSION)
    assert (old.record.machine_id, found.record.machine_id) == ("testbox", "second")
