"""The recipes that write more than the archived bytes: indexes, a shared history, and a file for each event."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from test_recipes import IDENTITY, plan, session, target

from sessiond.sources.plan import ArchivedStream, Unrestorable
from sessiond.sources.recipes import find_recipe

PROJECT = "/home/bob/src/my_other.proj"
EVENTS = f"/home/bob/.openhands/conversations/{IDENTITY.hex}/events"
DIGEST = hashlib.sha256(PROJECT.encode()).hexdigest()[:12]
STARTED = b'{"started":"2026-09-01 10:00:00"}\n'


def test_openhands_gets_a_file_for_each_event() -> None:
    lines = [b'{"id":"a-1","kind":"MessageEvent"}', b'{"kind":"ActionEvent","id":"b-2"}']
    made = plan("openhands", session("openhands", ("main", b"\n".join(lines) + b"\n")))
    assert {file.path: b"".join(file.content()) for file in made.files} == {
        f"{EVENTS}/event-00000-a-1.json": lines[0],
        f"{EVENTS}/event-00001-b-2.json": lines[1],
    }
    assert made.resume.argv == ("openhands", "--resume", IDENTITY.hex)


@pytest.mark.parametrize(
    "event", [b'{"id":1,"action":"run"}', b'{"id":"../x","kind":"A"}', b'{"id":"--x","kind":"A"}', b"{"]
)
def test_openhands_refuses_events_without_a_valid_id(event: bytes) -> None:
    with pytest.raises(Unrestorable):
        plan("openhands", session("openhands", ("main", event + b"\n")))


def test_openhands_does_not_mix_two_continuations() -> None:
    """An event that the archive lacks would get the number of another one."""
    archived = session("openhands", ("main", b'{"id":"a-1","kind":"MessageEvent"}\n'))
    recipe = find_recipe("openhands")
    assert recipe is not None
    own = msgspec.structs.replace(target(), names=lambda _: ["event-00000-a-1.json", ".eventlog.lock"])
    assert recipe.plan(archived, own).files
    strange = msgspec.structs.replace(target(), names=lambda _: ["event-00000-a-1.json", "event-00001-c-3.json"])
    with pytest.raises(Unrestorable, match="event-00001-c-3"):
        recipe.plan(archived, strange)


HEADER = b"# aider chat started at 2026-09-01 10:00:00\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"\n" + HEADER + b"#### hello  \nhi\n"),
        (b"\n# earlier\n", b"\n# earlier\n\n" + HEADER + b"#### hello  \nhi\n"),
        (b"\n" + HEADER + b"#### hello  \n", b"\n" + HEADER + b"#### hello  \nhi\n"),
        (b"\n" + HEADER + b"#### hello  \nhi\nmore\n", b"\n" + HEADER + b"#### hello  \nhi\nmore\n"),
    ],
    ids=["no history", "other sessions", "the first lines", "all of it"],
)
def test_aider_continues_the_history_of_the_project(before: bytes, after: bytes) -> None:
    archived = session("aider", ("main", STARTED + b'"#### hello  "\n"hi"\n'))
    recipe = find_recipe("aider")
    assert recipe is not None
    here = msgspec.structs.replace(target(), read=lambda _: before, exists=lambda path: path == "/home/bob/src/.git")
    (file,) = recipe.plan(archived, here).files
    assert file.path == "/home/bob/src/.aider.chat.history.md"
    assert b"".join(file.content()) == after


def test_aider_keeps_another_continuation() -> None:
    archived = session("aider", ("main", STARTED + b'"#### hello  "\n"hi"\n'))
    recipe = find_recipe("aider")
    assert recipe is not None
    here = msgspec.structs.replace(target(), read=lambda _: HEADER + b"#### hello  \nho\n")
    with pytest.raises(Unrestorable, match="the same start and other content"):
        recipe.plan(archived, here)


def test_continue_adds_the_session_to_its_index() -> None:
    """Other entries stay as they are."""
    archived = session(
        "continue",
        ("main", b'{"message":{"role":"user","content":"hi"}}\n{"message":{"role":"assistant"}}\n'),
        (
            "session",
            b'{"title":"Old","mode":"chat"}\n{"title":"Weave","mode":"agent","workspaceDirectory":"/home/ada"}\n',
        ),
    )
    made = plan("continue", archived)
    document = json.loads(b"".join(made.files[0].content()))
    assert (document["sessionId"], document["title"], document["mode"]) == (str(IDENTITY), "Weave", "agent")
    assert (document["workspaceDirectory"], len(document["history"])) == (PROJECT, 2)
    (edit,) = made.edits
    index = json.loads(edit.change(b'[{"sessionId":"x","own":1}]'))
    assert index[0] == {"sessionId": "x", "own": 1}
    assert (index[1]["sessionId"], index[1]["dateCreated"]) == (str(IDENTITY), "1788256800000")


def test_a_damaged_index_of_continue_is_refused() -> None:
    recipe = find_recipe("continue")
    assert recipe is not None
    archived = session("continue", ("main", b"{}\n"))
    with pytest.raises(Unrestorable, match=r"sessions\.json is damaged"):
        recipe.plan(archived, msgspec.structs.replace(target(), read=lambda _: b'[{"sess'))


def test_droid_and_grok_build_get_the_directory_of_this_machine() -> None:
    archived = session(
        "droid",
        ("main", b'{"type":"session_start","cwd":"/home/ada"}\n{}\n'),
        ("settings", b'{"type":"settings","a":1}\n'),
    )
    about, transcript = plan("droid", archived).files
    assert transcript.path == f"/home/bob/.factory/sessions/-home-bob-src-my_other.proj/{IDENTITY}.jsonl"
    assert b"".join(transcript.content()) == f'{{"type":"session_start","cwd":"{PROJECT}"}}\n{{}}\n'.encode()
    assert json.loads(b"".join(about.content())) == {"a": 1}
    archived = session("grok-build", ("main", b"{}\n"), ("summary", b'{"info":{"cwd":"/home/ada"},"n":1}\n'))
    log, about = plan("grok-build", archived).files
    assert log.path == f"/home/bob/.grok/sessions/%2Fhome%2Fbob%2Fsrc%2Fmy_other.proj/{IDENTITY}/updates.jsonl"
    assert json.loads(b"".join(about.content())) == {"info": {"cwd": PROJECT, "id": str(IDENTITY)}, "n": 1}


def test_kimi_code_gets_the_workspace_of_this_machine() -> None:
    """Only the record that binds the session is changed; the index has a line for the session."""
    bound = b'{"type":"runtime.set_binding","workspaceId":"wd_engine_0123456789ab","n":1.50}\n'
    said = b'{"type":"turn.prompt","text":"\\"wd_engine_0123456789ab\\""}\n'
    state = b'{"type":"state","state":{"cwd":"/home/ada","agents":{"main":{"homedir":"/x"}}}}\n'
    made = plan("kimi", session("kimi", ("main", bound + said), ("agent-0", said), ("state", state)))
    folder = f"/home/bob/.kimi-code/sessions/wd_my_other.proj_{DIGEST}/session_{IDENTITY}"
    main, agent, about = made.files
    assert (main.path, agent.path) == (f"{folder}/agents/main/wire.jsonl", f"{folder}/agents/agent-0/wire.jsonl")
    here = bound.replace(b"engine_0123456789ab", b"my_other.proj_" + DIGEST.encode())
    assert b"".join(main.content()) == here + said
    assert json.loads(b"".join(about.content())) == {
        "cwd": PROJECT,
        "agents": {"main": {"homedir": f"{folder}/agents/main"}},
    }
    entry = {"sessionId": f"session_{IDENTITY}", "sessionDir": folder, "workDir": PROJECT}
    assert json.loads(made.edits[0].change(b"{}\n").splitlines()[1]) == entry


WIRE = (
    b'{"type":"metadata","protocol_version":"1.3"}\n'
    b'{"timestamp":1.0,"message":{"type":"TurnBegin","payload":{"user_input":"hi"}}}\n'
    b'{"timestamp":2.0,"message":{"type":"StepBegin","payload":{"n":1}}}\n'
    b'{"timestamp":3.0,"message":{"type":"ContentPart","payload":{"type":"think","think":"hm"}}}\n'
    b'{"timestamp":3.1,"message":{"type":"ContentPart","payload":{"type":"text","text":"I look."}}}\n'
    b'{"timestamp":3.2,"message":{"type":"ToolCall","payload":{"id":"c1","function":{"name":"Shell"}}}}\n'
    b'{"timestamp":4.0,"message":{"type":"ToolResult","payload":{"tool_call_id":"c1",'
    b'"return_value":{"output":"out"}}}}\n'
    b'{"timestamp":5.0,"message":{"type":"StepBegin","payload":{"n":2}}}\n'
    b'{"timestamp":5.1,"message":{"type":"ContentPart","payload":{"type":"text","text":"Done."}}}\n'
)
KIMI_CLI = f"/home/bob/.kimi/sessions/{hashlib.md5(PROJECT.encode(), usedforsecurity=False).hexdigest()}/{IDENTITY}"


def test_kimi_cli_gets_its_files_and_an_entry_for_the_directory() -> None:
    """The context is what it continues from, so it is compared and continued as the log is."""
    context = ArchivedStream(
        name="context.jsonl", media_type="application/jsonl", length=3, read=lambda: iter([b"{}\n"])
    )
    archived = session("kimi", ("main", WIRE), ("a1", WIRE), ("state", b'{"type":"state","state":{"version":1}}\n'))
    archived = msgspec.structs.replace(archived, streams=(*archived.streams, context))
    made = plan("kimi", archived)
    files = {file.path.removeprefix(KIMI_CLI): file for file in made.files}
    assert list(files) == ["/subagents/a1/wire.jsonl", "/state.json", "/wire.jsonl", "/context.jsonl"]
    assert b"".join(files["/wire.jsonl"].content()) == WIRE
    assert b"".join(files["/context.jsonl"].content()) == b"{}\n"
    assert files["/context.jsonl"].transcript
    (edit,) = made.edits
    known = json.loads(edit.change(b'{"own":1,"work_dirs":[{"path":"/x","kaos":"local"}]}'))
    added = {"path": PROJECT, "kaos": "local", "last_session_id": str(IDENTITY)}
    assert known == {"own": 1, "work_dirs": [{"path": "/x", "kaos": "local"}, added]}
    recipe = find_recipe("kimi")
    assert recipe is not None
    assert not recipe.plan(archived, msgspec.structs.replace(target(), read=lambda _: edit.change(b""))).edits
    with pytest.raises(Unrestorable, match=r"kimi\.json is damaged"):
        recipe.plan(archived, msgspec.structs.replace(target(), read=lambda _: b'{"work'))


def test_the_context_of_kimi_cli_is_made_from_its_log_without_side_files() -> None:
    made = plan("kimi", session("kimi", ("main", WIRE)))
    lines = [json.loads(line) for line in b"".join(made.files[-1].content()).splitlines()]
    assert lines == [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"type": "function", "id": "c1", "function": {"name": "Shell"}}],
        },
        {"role": "tool", "content": [{"type": "text", "text": "out"}], "tool_call_id": "c1"},
        {"role": "assistant", "content": "Done."},
    ]


CLINE = "/home/bob/.cline/data/sessions/1795358998818_v4hp2"
MANIFEST = b'{"type":"session","manifest":{"session_id":"1795358998818_v4hp2","status":"failed","cwd":"/home/ada"}}\n'


def test_cline_gets_a_document_for_each_agent() -> None:
    """The manifest is the last file, has the directories of this machine, and its other values."""
    said = b'{"id":"m1","role":"user"}\n{"id":"m2","role":"assistant"}\n'
    archived = session("cline", ("main", said), ("agent_7", said), ("session", MANIFEST))
    agent, main, about = plan("cline", archived).files
    assert (agent.path, main.path, about.path) == (
        f"{CLINE}/agent_7.messages.json",
        f"{CLINE}/1795358998818_v4hp2.messages.json",
        f"{CLINE}/1795358998818_v4hp2.json",
    )
    document = json.loads(b"".join(main.content()))
    assert (document["sessionId"], document["agent"]) == ("1795358998818_v4hp2", "lead")
    assert document["messages"] == [{"id": "m1", "role": "user"}, {"id": "m2", "role": "assistant"}]
    manifest = json.loads(b"".join(about.content()))
    assert (manifest["cwd"], manifest["workspace_root"], manifest["status"]) == (PROJECT, PROJECT, "failed")
    assert manifest["messages_path"] == main.path


@pytest.mark.parametrize(
    "streams",
    [
        (("main", b"{}\n"),),
        (("main", b"{}\n"), ("session", b'{"manif\n')),
        (("main", b"{}\n"), ("session", MANIFEST.replace(b"1795358998818_v4hp2", b"../../etc"))),
        (("session", MANIFEST),),
    ],
    ids=["a task of the extension", "a damaged manifest", "an id that is a path", "no messages"],
)
def test_cline_refuses_what_its_command_line_does_not_read(streams: tuple[tuple[str, bytes], ...]) -> None:
    with pytest.raises(Unrestorable):
        plan("cline", session("cline", *streams))


def test_a_document_that_changed_since_the_plan_is_kept() -> None:
    recipe = find_recipe("cline")
    assert recipe is not None
    archived = session("cline", ("main", b'{"id":"m1"}\n{"id":"m2"}\n'), ("session", MANIFEST))
    here = msgspec.structs.replace(target(), read=lambda _: b'{"messages":[{"id":"m1"}],"version":1}')
    (edit,) = recipe.plan(archived, here).edits
    continued = json.loads(edit.change(b'{"messages": [ {"id": "m1"} ], "version": 2}'))
    assert continued == {"messages": [{"id": "m1"}, {"id": "m2"}], "version": 2}
    for changed in (b'{"messages":[{"id":"m9"}]}', b"", b'{"messages":7}'):
        with pytest.raises(Unrestorable, match="changed by another program"):
            edit.change(changed)


def test_mistral_vibe_gets_the_layout_of_2_x() -> None:
    """Of 3.x, an effect becomes a call in the answer before it, and a result."""
    entries = [
        {"type": "message", "role": "user", "id": "u1", "content": [{"type": "text", "text": "hi"}]},
        {
            "type": "message",
            "role": "assistant",
            "id": "a1",
            "content": [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "I look."}],
        },
        {
            "type": "effect",
            "id": "e1",
            "detail": {"toolName": "file_system.bash", "input": {"command": "ls"}},
            "state": {"output": {"structured_content": {"stdout": "out"}}},
        },
        {"type": "effect", "id": "e2", "detail": {"toolName": "todo"}, "state": {"outputText": "done"}},
        {"type": "message", "role": "assistant", "id": "a2", "content": "Done."},
    ]
    archived = session("mistral-vibe", ("main", b"".join(msgspec.json.encode(each) + b"\n" for each in entries)))
    messages, about = plan("mistral-vibe", archived).files
    folder = f"/home/bob/.vibe/logs/session/session_20260901_100000_{str(IDENTITY)[:8]}"
    assert (messages.path, about.path) == (f"{folder}/messages.jsonl", f"{folder}/meta.json")
    said = [json.loads(line) for line in b"".join(messages.content()).splitlines()]
    assert [each["role"] for each in said] == ["user", "assistant", "tool", "tool", "assistant"]
    assert (said[1]["content"], said[1]["reasoning_content"], said[1]["message_id"]) == ("I look.", "hm", "a1")
    assert [(each["id"], each["function"]) for each in said[1]["tool_calls"]] == [
        ("e1", {"name": "bash", "arguments": '{"command":"ls"}'}),
        ("e2", {"name": "todo", "arguments": "{}"}),
    ]
    assert [(each["tool_call_id"], each["content"]) for each in said[2:4]] == [
        ("e1", '{"stdout":"out"}'),
        ("e2", "done"),
    ]
    known = json.loads(b"".join(about.content()))
    assert (known["session_id"], known["environment"]["working_directory"]) == (str(IDENTITY), PROJECT)
    assert known["total_messages"] == 5


def test_messages_of_mistral_vibe_2_x_stay_as_they_were() -> None:
    line = b'{"role":"user","content":"hi","n":1.50}\n'
    archived = session("mistral-vibe", ("main", line), ("explore_1", line), ("meta", b'{"type":"meta"}\n'))
    agent, messages, _ = plan("mistral-vibe", archived).files
    assert agent.path.endswith("/agents/explore_1/messages.jsonl")
    assert b"".join(agent.content()) == b"".join(messages.content()) == line


def test_the_description_of_mistral_vibe_keeps_what_is_known() -> None:
    """The model, the commit, and which call started which subagent."""
    child = {"session_id": "s", "tool_call_id": "c", "agent": "explore", "relative_path": "agents/explore_1"}
    about = b'{"type":"meta","git_commit":"c115d9","model":"other"}\n'
    state = msgspec.json.encode({"type": "meta", "child_sessions": [child]}) + b"\n"
    archived = session("mistral-vibe", ("main", b'{"role":"user"}\n'), ("meta", about + state))
    *_, made = plan("mistral-vibe", archived).files
    known = msgspec.json.decode(b"".join(made.content()))
    assert (known["git_commit"], known["child_sessions"]) == ("c115d9", [child])
    assert known["config"] == {"model_name": archived.record.model}


def test_a_session_that_mistral_vibe_3_has_is_not_written_beside_it() -> None:
    """It would be there twice."""
    recipe = find_recipe("mistral-vibe")
    assert recipe is not None
    there = f"/home/bob/.vibe/logs/session/unified/{IDENTITY}"
    here = msgspec.structs.replace(target(), exists=lambda path: path == there)
    made = recipe.plan(session("mistral-vibe", ("main", b'{"role":"user"}\n')), here)
    assert (made.files, made.resume.argv) == ((), ("vibe", "--resume", str(IDENTITY)))
