"""The recipes: what each tool gets, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from sessiond.cleanup import DAY_MS
from sessiond.cli.path_list import folded
from sessiond.restore.cleanup import keep_from_cleanup
from sessiond.restore.compare import Relation, compare
from sessiond.restore.engine import Restorer, read_linked, read_small
from sessiond.restore.journal import Conflict, Journal, JournalFile, Staged, place, undo
from sessiond.session import Session
from sessiond.sources import find_sources
from sessiond.sources.base import UserDirs
from sessiond.sources.documents import agrees
from sessiond.sources.plan import (
    RECORDS,
    ArchivedSession,
    ArchivedStream,
    Plan,
    PlannedEdit,
    PlannedFile,
    Target,
    Unrestorable,
)
from sessiond.sources.plan import Command as PlannedCommand
from sessiond.sources.recipes import find_recipe, reason_without_recipe, restorable_tools
from support.harness import NOW_MS

IDENTITY = UUID("0198c0de-0000-7000-8000-000000000001")
ROLLOUT = f"rollout-2026-09-01T10-00-00-{IDENTITY}.jsonl"


def session(
    tool: str, *streams: tuple[str, bytes], path: str = "", media: str = "application/x-ndjson"
) -> ArchivedSession:
    moment = datetime(2026, 9, 1, 10, tzinfo=UTC)
    record = Session(
        id=IDENTITY,
        tool=tool,
        tool_version="1",
        started_at=moment,
        ended_at=moment,
        model=None,
        working_directory="/home/ada/engine",
        git_branch=None,
        source_path=path or None,
        message_count=1,
        machine_id="ada",
    )
    made = [
        ArchivedStream(name=name, media_type=RECORDS, length=len(data), read=lambda data=data: iter([data]))
        for name, data in streams
    ]
    return ArchivedSession(record=record, title="Tides", streams=tuple(made))


def target() -> Target:
    dirs = UserDirs(home="/home/bob", environ={}, platform="linux")
    return Target(
        dirs=dirs,
        directory="/home/bob/src/my_other.proj",
        exists=lambda _: False,
        read=lambda _: b"",
        read_linked=lambda _: b"",
    )


def plan(tool: str, archived: ArchivedSession) -> Plan:
    recipe = find_recipe(tool)
    assert recipe is not None
    return recipe.plan(archived, target())


def test_each_recipe_is_of_a_supported_tool() -> None:
    assert set(restorable_tools()) <= {source.tool for source in find_sources()}
    assert find_recipe("no-such-tool") is None


def test_each_tool_without_a_recipe_has_a_reason() -> None:
    for tool in {source.tool for source in find_sources()} - set(restorable_tools()):
        assert tool in reason_without_recipe(tool)
    assert "in a database" in reason_without_recipe("goose")
    assert "has not been shown" in reason_without_recipe("amp")


def test_claude_code_finds_the_session_in_the_folder_of_the_project() -> None:
    made = plan("claude-code", session("claude-code", ("main", b"{}\n"), ("wf_1/agent-a", b"{}\n")))
    assert [file.path for file in made.files] == [
        f"/home/bob/.claude/projects/-home-bob-src-my-other-proj/{IDENTITY}/subagents/workflows/wf_1/agent-a.jsonl",
        f"/home/bob/.claude/projects/-home-bob-src-my-other-proj/{IDENTITY}.jsonl",
    ]
    assert made.resume.argv == ("claude", "--resume", str(IDENTITY))


@pytest.mark.parametrize("path", ["", f"/x/{ROLLOUT}", f"/x/{ROLLOUT}.zst", "/x/rollout-of-somebody-else.jsonl"])
def test_codex_finds_the_rollout_below_its_day(path: str) -> None:
    made = plan("codex", session("codex", ("main", b"{}\n"), path=path))
    assert [file.path for file in made.files] == [f"/home/bob/.codex/sessions/2026/09/01/{ROLLOUT}"]


def test_codex_refuses_the_format_of_its_typescript_version() -> None:
    with pytest.raises(Unrestorable):
        plan("codex", session("codex", ("main", b"{}\n"), path="/x/rollout-2025-05-01-x.json"))


def test_opencode_imports_each_message_with_its_parts() -> None:
    """Damaged records are left out; the project is that of this machine."""
    rows = [
        b'{"id":"ses_1","projectID":"p","directory":"/home/ada/engine","time":{"created":5}}',
        b'{"id":"msg_1","sessionID":"ses_1","role":"user"}',
        b'{"id":"prt_1","messageID":"msg_1","type":"text","text":"hello"}',
        b'{"id":"msg_2","sess',
        b'{"id":"msg_3","sessionID":"ses_1","role":"assistant"}',
    ]
    made = plan("opencode", session("opencode", ("main", b"\n".join(rows) + b"\n")))
    assert not made.files + made.edits  # only the tool itself writes to its database
    document = json.loads(b"".join(made.imports[0].content()))
    assert document["info"]["directory"] == "/home/bob/src/my_other.proj"
    assert (document["info"]["title"], document["info"]["time"]["created"]) == ("Tides", 5)
    assert [(each["info"]["id"], len(each["parts"])) for each in document["messages"]] == [("msg_1", 1), ("msg_3", 0)]
    assert made.resume.argv == ("opencode", "--session", "ses_1")


@pytest.mark.parametrize("tool", ["opencode", "kilo-code"])
def test_opencode_knows_a_subagent_from_a_fork(tool: str) -> None:
    """Only a subagent has `parentID`; a fork has the messages of another session."""
    recipe = find_recipe(tool)
    assert recipe is not None
    assert recipe.is_subagent(session(tool, ("main", b'{"id":"ses_2","parentID":"ses_1"}\n')))
    assert not recipe.is_subagent(session(tool, ("main", b'{"id":"ses_3","parentID":null}\n')))


def test_qwen_code_gets_the_directory_of_this_machine_in_the_first_record() -> None:
    """Everything else stays as it was; subagents and their notes come along."""
    first, second = b'{"uuid":"u1","cwd":"/home/ada/engine","n":1.50}', b'{"uuid":"u2","cwd":"/home/ada/engine"}'
    archived = session(
        "qwen-code",
        ("main", first + b"\n" + second + b"\n"),
        ("agent-a", b"{}\n"),
        ("subagents/agent-a.meta.json", b"{}"),
    )
    meta = msgspec.structs.replace(archived.streams[2], media_type="application/json")
    made = plan("qwen-code", msgspec.structs.replace(archived, streams=(*archived.streams[:2], meta)))
    project = "/home/bob/.qwen/projects/-home-bob-src-my-other-proj"
    assert [file.path for file in made.files] == [
        f"{project}/subagents/{IDENTITY}/agent-a.jsonl",
        f"{project}/subagents/{IDENTITY}/agent-a.meta.json",
        f"{project}/chats/{IDENTITY}.jsonl",
    ]
    changed = b'{"uuid":"u1","cwd":"/home/bob/src/my_other.proj","n":1.50}'
    assert b"".join(made.files[-1].content()) == changed + b"\n" + second + b"\n"


def test_qwen_code_refuses_the_format_of_gemini() -> None:
    with pytest.raises(Unrestorable, match="early version"):
        plan("qwen-code", session("qwen-code", ("main", b'{"sessionId":"x"}\n')))


@pytest.mark.parametrize("path", ["", f"/x/2026-09-01T10-00-00-000Z_{IDENTITY}.jsonl", "/x/another_name.jsonl"])
def test_pi_finds_the_session_in_the_folder_of_the_project(path: str) -> None:
    made = plan("pi", session("pi", ("main", b'{"type":"session","cwd":"/home/ada"}\n{}\n'), path=path))
    folder = "/home/bob/.pi/agent/sessions/--home-bob-src-my_other.proj--"
    (file,) = made.files
    assert file.path == f"{folder}/2026-09-01T10-00-00-000Z_{IDENTITY}.jsonl"
    assert b"".join(file.content()) == b'{"type":"session","cwd":"/home/bob/src/my_other.proj"}\n{}\n'


def test_a_damaged_header_is_refused() -> None:
    """Without it the tool would find a session of another directory, or none."""
    (file,) = plan("pi", session("pi", ("main", b'{"type":"sess\n'))).files
    with pytest.raises(Unrestorable, match="damaged"):
        list(file.content())


def test_copilot_keeps_the_name_of_the_session() -> None:
    """workspace.yaml is made of the fields in the archive, with the directory of this machine."""
    native_id = "18f4949a-72fa-4c49-ba66-fcca2bc0ee3c"
    about = json.dumps({"id": native_id, "cwd": "/home/ada", "name": 'a "name": x', "user_named": "true"}).encode()
    made = plan("copilot-cli", session("copilot-cli", ("main", b"{}\n"), ("workspace", about + b"\n")))
    folder = f"/home/bob/.copilot/session-state/{native_id}"
    assert [file.path for file in made.files] == [f"{folder}/workspace.yaml", f"{folder}/events.jsonl"]
    assert b"".join(made.files[0].content()).decode().splitlines() == [
        f"id: {native_id}",
        'cwd: "/home/bob/src/my_other.proj"',
        'name: "a \\"name\\": x"',
        "user_named: true",
        "created_at: 2026-09-01T10:00:00.000Z",
        "updated_at: 2026-09-01T10:00:00.000Z",
    ]
    assert made.resume.argv == ("copilot", f"--resume={native_id}")


@pytest.mark.parametrize("native_id", ["../../etc", "--help-me-please", "x"])
def test_copilot_refuses_an_id_that_leads_elsewhere(native_id: str) -> None:
    about = json.dumps({"id": native_id}).encode() + b"\n"
    with pytest.raises(Unrestorable, match="no valid id"):
        plan("copilot-cli", session("copilot-cli", ("main", b"{}\n"), ("workspace", about)))


@pytest.mark.parametrize(
    ("files", "folder"),
    [
        ({}, "my-other-proj"),
        ({"tmp/my-other-proj/.project_root": "/home/bob/src/my_other.proj"}, "my-other-proj"),
        ({"tmp/my-other-proj/.project_root": "/somewhere/else"}, "my-other-proj-1"),
        ({"tmp/my-other-proj/chats/a.jsonl": "{}"}, "my-other-proj"),
        ({"tmp/before/.project_root": "/home/bob/src/my_other.proj"}, "before"),
        ({"projects.json": '{"projects":{"/home/bob/src/my_other.proj":"mine"}}'}, "mine"),
        (
            {
                "projects.json": '{"projects":{"/home/bob/src/my_other.proj":"mine"}}',
                "tmp/mine/.project_root": "/somewhere/else",
            },
            "my-other-proj",
        ),
        ({"projects.json": '{"projects":{"/somewhere/else":"my-other-proj"}}'}, "my-other-proj-1"),
        ({"projects.json": '{"projects":{"/home/bob/src/my_other.proj":"../../up"}}'}, "my-other-proj"),
        ({"projects.json": "damaged"}, "my-other-proj"),
    ],
)
def test_gemini_finds_the_chat_in_the_folder_of_the_project(files: dict[str, str], folder: str) -> None:
    """The folder is the one that Gemini registered or finds, or has the name that it would give."""
    base = "/home/bob/.gemini"
    there = {f"{base}/{name}": content.encode() for name, content in files.items()}
    here = Target(
        dirs=target().dirs,
        directory=target().directory,
        exists=lambda path: any(each.startswith(path) for each in there),
        read=lambda _: b"",
        read_linked=lambda path: there.get(path, b""),
        names=lambda path: {each.removeprefix(f"{path}/").split("/")[0] for each in there if each.startswith(path)},
    )
    recipe = find_recipe("gemini-cli")
    assert recipe is not None
    made = recipe.plan(session("gemini-cli", ("session-2026-09-01T10-00-0198c0de", b"{}\n")), here)
    owner, chat = made.files
    assert chat.path == f"{base}/tmp/{folder}/chats/session-2026-09-01T10-00-0198c0de.jsonl"
    assert (owner.path, b"".join(owner.content())) == (f"{base}/tmp/{folder}/.project_root", here.directory.encode())


@pytest.mark.parametrize(
    ("linked", "content", "folder"),
    [
        ("tmp/aside/.project_root", "/home/bob/src/my_other.proj\n", "aside"),
        ("tmp/aside/.project_root", "/somewhere/else", "my-other-proj"),
        ("tmp/my-other-proj/.project_root", "/somewhere/else", "my-other-proj-1"),
        ("tmp/aside/.project_root", None, "my-other-proj"),
        ("projects.json", '{"projects":{"/home/bob/src/my_other.proj":"mine"}}', "mine"),
    ],
)
def test_gemini_reads_behind_links_and_so_does_the_restore(
    tmp_path: Path, linked: str, content: str | None, folder: str
) -> None:
    """Else the chat would be in another folder than the one in which Gemini looks for it. Nothing is written there."""
    there = tmp_path / "settings"
    if content is not None:
        there.write_text(content)
    link = tmp_path / ".gemini" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(there)
    here = msgspec.structs.replace(
        target(),
        dirs=UserDirs(home=str(tmp_path), environ={}, platform="linux"),
        exists=os.path.lexists,
        read=read_small,
        read_linked=read_linked,
        names=lambda path: os.listdir(path) if os.path.isdir(path) else [],
    )
    recipe = find_recipe("gemini-cli")
    assert recipe is not None
    made = recipe.plan(session("gemini-cli", ("session-2026-09-01T10-00-0198c0de", b"{}\n")), here)
    chat = made.files[-1].path
    assert chat == f"{tmp_path}/.gemini/tmp/{folder}/chats/session-2026-09-01T10-00-0198c0de.jsonl"
    restorer = Restorer(str(tmp_path / "state"), {}, lambda *_: [])
    restorer.carry_out(restorer.check(made))
    assert Path(chat).read_bytes() == b"{}\n"
    assert link.is_symlink() and (content is None or there.read_text() == content)
    assert (tmp_path / ".gemini" / "tmp" / folder / ".project_root").read_text().strip() == here.directory


def test_kilo_refuses_a_task_of_the_extension() -> None:
    with pytest.raises(Unrestorable, match="VS Code"):
        plan("kilo-code", session("kilo-code", ("main", b'{"id":"ses_1"}\n'), ("ui", b"{}\n")))
    made = plan("kilo-code", session("kilo-code", ("main", b'{"id":"ses_1"}\n')))
    assert made.imports[0].command.argv == ("kilo", "import", "{file}")


def test_a_session_without_a_transcript_is_refused() -> None:
    for tool in restorable_tools():
        with pytest.raises(Unrestorable):
            plan(tool, session(tool, ("prompts", b"{}\n")))


def test_an_id_that_looks_like_an_option_is_refused() -> None:
    with pytest.raises(Unrestorable, match="no valid id"):
        plan("opencode", session("opencode", ("main", b'{"id":"--prompt=x"}\n')))


# The engine


def test_a_tool_does_not_delete_what_was_just_restored(tmp_path: Path) -> None:
    """Claude Code deletes transcripts that are older than 30 days; files of other ages keep their time."""
    dirs = UserDirs(home=str(tmp_path), environ={}, platform="linux")
    made = plan("claude-code", session("claude-code", ("main", b"{}\n")))
    active_ms = made.files[0].mtime_ms
    recent = keep_from_cleanup(made, "claude-code", dirs, active_ms + 10 * DAY_MS)
    assert (recent.files, recent.notes) == (made.files, made.notes)
    old = keep_from_cleanup(made, "claude-code", dirs, active_ms + 29 * DAY_MS)
    assert [file.mtime_ms for file in old.files] == [active_ms + 29 * DAY_MS]
    assert "older than 30 days" in old.notes[-1]
    other = plan("codex", session("codex", ("main", b"{}\n")))
    assert keep_from_cleanup(other, "codex", dirs, active_ms + 900 * DAY_MS) == other


def pieces(*parts: bytes) -> Iterator[bytes]:
    return iter(parts)


def test_masked_bytes_agree_with_the_secret() -> None:
    assert agrees(b"key=abc;", b"key=***;")
    assert not agrees(b"key=abc;", b"kay=***;")


@pytest.mark.parametrize(
    ("here", "relation"),
    [(b"one\ntwo\n", "COMPLETE"), (b"one\ntwo\nthree\n", "COMPLETE"), (b"one\nt", "BEHIND"), (b"other\n", "DIFFERENT")],
)
def test_a_file_is_compared_with_the_archive(tmp_path: Path, here: bytes, relation: str) -> None:
    path = tmp_path / "main.jsonl"
    path.write_bytes(here)
    assert compare(str(path), lambda: pieces(b"one\n", b"two\n")).relation is Relation[relation]


def test_a_file_is_not_continued_while_the_tool_runs(tmp_path: Path) -> None:
    (tmp_path / "main.jsonl").write_bytes(b"one\n")
    file = PlannedFile(path=f"{tmp_path}/main.jsonl", content=lambda: pieces(b"one\ntwo\n"), mtime_ms=1)
    made = Plan(
        base=str(tmp_path), files=(file,), resume=PlannedCommand(argv=("x",), directory="/"), programs=("tool",)
    )
    with pytest.raises(Conflict, match="tool is running"):
        Restorer(str(tmp_path / "state"), {}, lambda names, _: list(names)).check(made)
    assert Restorer(str(tmp_path / "state"), {}, lambda names, _: []).check(made).behind == ((file, 4),)


@pytest.mark.parametrize("path", ["/etc/passwd", "/base/../etc/passwd", "/base-of-others/x", "/base"])
def test_the_engine_writes_below_the_tools_directory_only(tmp_path: Path, path: str) -> None:
    made = Plan(
        base="/base",
        edits=(PlannedEdit(path=path, change=lambda before: before),),
        resume=PlannedCommand(argv=("x",), directory="/"),
    )
    with pytest.raises(Conflict, match="is not below"):
        Restorer(str(tmp_path), {}).check(made)


def test_an_index_is_changed_and_keeps_its_mode(tmp_path: Path) -> None:
    index = tmp_path / "tool" / "index.json"
    index.parent.mkdir()
    index.write_bytes(b"[1]")
    index.chmod(0o640)
    made = Plan(
        base=f"{tmp_path}/tool",
        edits=(
            PlannedEdit(path=str(index), change=lambda before: before[:-1] + b",2]"),
            PlannedEdit(path=f"{tmp_path}/tool/new.json", change=lambda before: before + b"[]"),
        ),
        resume=PlannedCommand(argv=("x",), directory="/"),
    )
    restorer = Restorer(str(tmp_path / "state"), {})
    restorer.scratch  # noqa: B018 - makes the directory
    checked = restorer.check(made)
    assert not checked.complete, "the files are here, but the tool's list of sessions lacks this one"
    restorer.carry_out(checked)
    assert index.read_bytes() == b"[1,2]"
    assert index.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "tool" / "new.json").read_bytes() == b"[]"


def test_files_are_created_in_the_order_of_the_plan_and_shared_ones_once(tmp_path: Path) -> None:
    """The one by which the tool finds the session comes last, whether it is a transcript or not."""

    def file(name: str, *, transcript: bool) -> PlannedFile:
        return PlannedFile(
            path=f"{tmp_path}/{name}", content=lambda: iter([b"{}"]), mtime_ms=NOW_MS, transcript=transcript
        )

    owner, log, index = file("owner", transcript=False), file("log", transcript=True), file("index", transcript=False)
    made = Plan(resume=PlannedCommand(argv=("x",), directory="/"), base=str(tmp_path), files=(owner, log, owner, index))
    assert Restorer(str(tmp_path / "state"), {}).check(made).new == (owner, log, index)
    restorer = Restorer(str(tmp_path / "state"), {})
    restorer.scratch  # noqa: B018 - makes the directory
    with pytest.raises(Conflict, match="in the meantime"):  # never two of the same transcript
        restorer.carry_out(restorer.check(msgspec.structs.replace(made, files=(log, log))))
    assert not os.path.exists(log.path)


def test_a_file_below_a_file_is_missing(tmp_path: Path) -> None:
    """Gemini's folders are searched, and a stray file may be among them."""
    (tmp_path / "stray").write_bytes(b"")
    assert read_small(f"{tmp_path}/stray/.project_root") == read_small(f"{tmp_path}/none") == b""
    with pytest.raises(Conflict, match="can't be read: Is a directory"):
        read_small(str(tmp_path))


def test_a_link_is_followed_only_to_what_is_not_changed(tmp_path: Path) -> None:
    """A tool's index that is replaced would leave the link's target behind."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    assert read_linked(f"{tmp_path}/link") == b"content" and read_linked(f"{tmp_path}/dangling") == b""
    for read, name in ((read_small, "link"), (read_small, "dangling"), (read_linked, "loop")):
        with pytest.raises(Conflict, match="can't be read: Too many levels"):
            read(f"{tmp_path}/{name}")


def test_an_append_that_fails_is_taken_back(tmp_path: Path) -> None:
    """A full disk would leave a part of a line, to which the tool would append."""
    path, temporary = tmp_path / "main.jsonl", tmp_path / ".main.tmp"
    path.write_bytes(b"one\ntw")
    temporary.write_bytes(b"two\n")
    staged = Staged(temporary=str(temporary), path=str(path), offset=4, mtime_ms=NOW_MS)
    undo(Journal(placing=True, files=(staged,)))
    assert path.read_bytes() == b"one\n"
    assert path.stat().st_mtime_ns == NOW_MS * 1_000_000
    assert not temporary.exists()


@pytest.mark.parametrize("content", [b"one\nown\n", b"one", b"one\ntwo\nown\n"])
def test_what_the_tool_has_written_stays(tmp_path: Path, content: bytes) -> None:
    path, temporary = tmp_path / "main.jsonl", tmp_path / ".main.tmp"
    path.write_bytes(content)
    temporary.write_bytes(b"two\n")
    undo(Journal(placing=True, files=(Staged(temporary=str(temporary), path=str(path), offset=4),)))
    assert path.read_bytes() == content


def test_an_index_that_was_rewritten_in_place_is_kept(tmp_path: Path) -> None:
    """The tool wrote between reading and replacing, without a new inode."""
    index, temporary = tmp_path / "index.json", tmp_path / ".index.tmp"
    index.write_bytes(b"[1]")
    temporary.write_bytes(b"[1,2]")
    before = index.stat()
    os.utime(index, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    staged = Staged(temporary=str(temporary), path=str(index), replaces=before.st_ino, replaces_ns=before.st_mtime_ns)
    with pytest.raises(Conflict, match="was changed by another program"):
        place(Journal(placing=True, files=(staged,)))
    assert index.read_bytes() == b"[1]"


def test_an_import_that_was_killed_is_reported(tmp_path: Path) -> None:
    """Its file, which has the content of a session, is removed."""
    restorer = Restorer(str(tmp_path), {})
    Path(restorer.scratch, "import-1.json").write_bytes(b"{}")
    JournalFile(str(tmp_path)).write(Journal(placing=True, imports=True))
    assert "restore the session again" in (restorer.recover() or "")
    assert sorted(os.listdir(restorer.scratch)) == ["lock"]


def test_a_dry_run_of_many_files_fits_a_screen() -> None:
    events = [f"~/c/events/event-{number:05d}.json" for number in range(300)]
    assert folded(["~/c/state.json", *events, "~/c/last.json"]) == [
        "~/c/state.json",
        "~/c/last.json",
        "300 files in ~/c/events/",
    ]
    assert folded(events[:3]) == events[:3]
