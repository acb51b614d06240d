"""Facts about Gemini CLI and Qwen Code: their directories, their paths and retracted messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance import engine
from sessiond.session import NO_MODEL, Fold
from sessiond.sources.base import Kind, Unit, UserDirs
from sessiond.sources.gemini_cli import GeminiCli
from sessiond.sources.qwen_code import QwenCode

GEMINI, QWEN = GeminiCli(), QwenCode()
ID, OTHER = "00000301-0000-4000-8000-000000000301", "00000302-0000-4000-8000-000000000302"
BESIDE = ("p/.project_root",)


def roots(source: GeminiCli, **environ: str) -> list[str]:
    """Return the roots of a home."""
    return [root.path for root in source.roots(UserDirs(home="/home/ada", environ=environ, platform="linux"))]


def test_an_override_comes_first_and_the_home_stays() -> None:
    """GEMINI_CLI_HOME is a home, QWEN_HOME a ~/.qwen. Sessions from before they were set are still found."""
    assert roots(GEMINI) == ["/home/ada/.gemini/tmp"]
    assert roots(GEMINI, GEMINI_CLI_HOME="/g/") == ["/g/.gemini/tmp", "/home/ada/.gemini/tmp"]
    assert roots(QWEN)[:2] == ["/home/ada/.qwen/projects", "/home/ada/.qwen/tmp"]
    assert roots(QWEN, QWEN_HOME="/q", QWEN_RUNTIME_DIR="/r")[:4] == ["/r/projects", "/r/tmp", "/q/projects", "/q/tmp"]


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        (
            "p/chats/session-2026-04-01T10-00-00000301.jsonl",
            Unit(stream="session-2026-04-01T10-00-00000301", beside=BESIDE, id_prefix="00000301"),
        ),
        (
            "p/chats/session-2026-04-01T10-00-00000301.json",
            Unit(
                kind=Kind.DOCUMENT, stream="session-2026-04-01T10-00-00000301.json", beside=BESIDE, id_prefix="00000301"
            ),
        ),
        (f"p/chats/{ID}/{OTHER}.jsonl", Unit(native_id=OTHER, parent=ID, beside=BESIDE)),
        (f"p/chats/{ID}/worker-1.jsonl", Unit(native_id=f"{ID}/worker-1", parent=ID, beside=BESIDE)),
        ("p/logs/session-2026-04-01T10-00-00000301.jsonl", None),
        ("p/chats/session-2026-04-01T10-00-00000301.jsonl.unreadable-1775037600000", None),
        ("p/chats/session-2026-04-01T10-00-00000301.jsonl.tmp-12", None),
        ("p/checkpoint-mytag.json", None),
        ("p/logs.json", Unit(kind=Kind.HISTORY, projected=True, beside=BESIDE)),
        (f"p/{ID}/tool-outputs/session-1.jsonl", None),
    ],
)
def test_a_path_says_which_chat_it_is(path: str, unit: Unit | None) -> None:
    """A chat is known by its name, a subagent by its parent's directory. A log with a chat's name is not a chat."""
    assert GEMINI.unit(path) == unit


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        (f"-p/chats/{ID}.jsonl", Unit(native_id=ID)),
        (f"-p/chats/archive/{ID}.jsonl", Unit(native_id=ID)),
        # What its bundle takes for an id of a session: ^[0-9a-fA-F-]{32,36}$
        ("-p/chats/0000001A-0000-4000-8000-00000000001A.jsonl", Unit(native_id="0000001A-0000-4000-8000-00000000001A")),
        (f"-p/chats/{'0a' * 16}.jsonl", Unit(native_id="0a" * 16)),
        ("-p/chats/0a0a.jsonl", None),
        (f"-p/subagents/{ID}/agent-fix-call_1.jsonl", Unit(native_id=ID, stream="agent-fix-call_1", thread=False)),
        (f"-p/subagents/{ID}/agent-fix-call_1.meta.json", None),
        (f"-p/chats/{ID}.runtime.json", None),
        ("-p/extract-cursor.json", None),
    ],
)
def test_a_path_says_which_qwen_chat_it_is(path: str, unit: Unit | None) -> None:
    """An archived chat is the same session; a subagent's transcript is a stream of its parent."""
    assert QWEN.unit(path) == unit


def fold(*operations: dict[str, object]) -> Fold:
    """Fold operations behind a header."""
    made = Fold()
    head = {"sessionId": ID, "startTime": "2026-04-01T10:00:00.000Z", "kind": "main"}
    engine.fold_lines(GEMINI, made, "".join(f"{json.dumps(line)}\n" for line in (head, *operations)).encode())
    assert not made.damaged
    return made


def said(identity: str, kind: str, content: object, **more: object) -> dict[str, object]:
    """Make a message."""
    return {"id": identity, "timestamp": "2026-04-01T10:00:01.000Z", "type": kind, "content": content, **more}


@pytest.mark.parametrize(
    "content",
    [
        "/stats",
        "?",
        "  <session_context>\nThis is the Gemini CLI.",
        [{"text": "<hook_context>x"}],
        [{"functionResponse": {"id": "1"}}],
        [],
        "",
    ],
)
def test_injected_text_is_not_a_prompt(content: object) -> None:
    """Commands, injected context and tool results have the user's role."""
    assert not fold(said("1", "user", content)).messages


@pytest.mark.parametrize("content", ["weave", ["weave"], [{"text": "weave"}], {"text": "weave"}, [{"inlineData": {}}]])
def test_a_prompt_has_many_shapes(content: object) -> None:
    """A prompt is a string, a part or a list of both. A picture alone is a prompt too."""
    assert len(fold(said("1", "user", content)).messages) == 1


def test_a_resume_in_steps_keeps_the_models() -> None:
    """0.61 first sets the context alone, then all messages, without their models."""
    talk = [said("1", "user", "weave"), said("2", "gemini", "Woven.", model="pro")]
    bare = [said("1", "user", [{"text": "weave"}]), said("2", "gemini", [{"text": "Woven."}])]
    made = fold(*talk, {"$set": {"messages": [said("0", "user", "<session_context>")]}}, {"$set": {"messages": bare}})
    assert (list(made.messages.model_indexes), made.models) == ([NO_MODEL, 0], ["pro"])


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ('{"advanced": {"runtimeOutputDir": "~/runs/"}}', "/home/ada/runs/projects"),
        ('{// here\n"runtimeOutputDir"  :\n "/srv/r\\u00fcns"}', "/srv/rüns/projects"),
        ('{"runtimeOutputDir": "relative/to/each/project"}', None),
        ('{"runtimeOutputDir": "/torn', None),
        ('{"runtimeOutputDir": "/bad\\x"}', None),
        ("", None),
    ],
)
def test_qwen_is_looked_for_where_its_settings_say(settings: str, found: str | None, tmp_path: Path) -> None:
    """The directory of the settings is read besides the usual ones, and again when the settings change."""
    (tmp_path / "settings.json").write_text(settings)
    places = UserDirs(home="/home/ada", environ={"QWEN_HOME": str(tmp_path)}, platform="linux")
    roots = {root.path: root for root in QwenCode().roots(places)}
    usual = {f"{tmp_path}/projects", "/home/ada/.qwen/projects"}
    assert {path for path in roots if path.endswith("projects")} == {*filter(None, [found]), *usual}
    assert roots[str(tmp_path)].registry == "settings.json"
