"""Facts about Codex: its directories, its paths and the keys of its messages."""

from __future__ import annotations

import json

import pytest

from conformance import engine
from sessiond.session import Fold
from sessiond.sources.base import Kind, Unit, UserDirs
from sessiond.sources.codex import Codex

SOURCE = Codex()
ID = "01a2037e-0461-7000-8000-000000000461"
NAME = f"rollout-2026-04-01T12-00-00-{ID}"
TITLES = ("../session_index.jsonl",)


def roots(**environ: str) -> list[str]:
    """Return the roots of a home."""
    return [root.path for root in SOURCE.roots(UserDirs(home="/home/ada", environ=environ, platform="linux"))]


def test_archived_sessions_are_watched_as_well() -> None:
    """CODEX_HOME moves everything except what was written before it was set."""
    own = ["/home/ada/.codex/sessions", "/home/ada/.codex/archived_sessions"]
    assert roots() == [*own, "/home/ada/.codex"]
    assert roots(CODEX_HOME="/c/") == ["/c/sessions", "/c/archived_sessions", *own, "/c", "/home/ada/.codex"]
    assert roots(CODEX_HOME="/home/ada/.codex") == roots()


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        (f"2026/04/01/{NAME}.jsonl", Unit(native_id=ID, beside=TITLES)),
        (f"{NAME}.jsonl", Unit(native_id=ID, beside=TITLES)),
        (f"2026/04/01/{NAME}.jsonl.zst", Unit(native_id=ID, packed=True, beside=TITLES)),
        (f"rollout-2026-04-01-{ID}.json", Unit(kind=Kind.DOCUMENT, native_id=ID)),
        (f"2026/04/01/.{NAME}.jsonl.paginated.tmp", None),
        ("2026/04/01/rollout-compress-4f2a.tmp", None),
        (f"2026/04/01/.rollout-materialize-{ID}.jsonl", None),
        (f"2026/04/01/{NAME}.jsonl.tmp", None),
        ("history.jsonl", Unit(kind=Kind.HISTORY)),
        ("2026/history.jsonl", None),
        ("session_index.jsonl", Unit(kind=Kind.TITLES)),
        ("2026/session_index.jsonl", None),
    ],
)
def test_a_path_says_which_thread_it_is(path: str, unit: Unit | None) -> None:
    """The uuid in the name is the thread's; temporary files belong to no session."""
    assert SOURCE.unit(path) == unit


def rollout(identity: str, *records: tuple[str, dict[str, object]]) -> Fold:
    """Fold a rollout of these payloads."""
    fold = Fold()
    head = ("session_meta", {"id": identity, "timestamp": "2026-04-01T10:00:00.000Z", "cwd": "/loom"})
    time = "2026-04-01T10:00:01.000Z"
    texts = (json.dumps({"timestamp": time, "type": kind, "payload": payload}) for kind, payload in (head, *records))
    engine.fold_lines(SOURCE, fold, "".join(f"{text}\n" for text in texts).encode())
    assert not fold.damaged
    return fold


def event(kind: str, text: str) -> tuple[str, dict[str, object]]:
    """Make a legacy event."""
    return "event_msg", {"type": kind, "message": text}


def sent(role: str, text: str, kind: str = "input_text") -> tuple[str, dict[str, object]]:
    """Make an item that was sent to the model."""
    return "response_item", {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def test_the_same_words_in_two_sessions_are_two_messages() -> None:
    """Sessions that only begin alike share no key, or the second would pass for a copy of the first."""
    words = (event("user_message", "go on"), event("agent_message", "Done."))
    one, two = rollout("one", *words), rollout("two", *words)
    assert not set(one.messages) & set(two.messages)
    assert one.first_answer_key != two.first_answer_key


def test_the_same_prompt_twice_is_two_messages() -> None:
    """A user who says "continue" twice said two things."""
    assert len(rollout("one", event("user_message", "continue"), event("user_message", "continue")).messages) == 2


def test_a_displayed_prompt_replaces_the_sent_one() -> None:
    """Items of earlier turns, which no event repeats, still count when the first event comes."""
    turns = (sent("user", "weave"), sent("assistant", "Woven.", "output_text"))
    again = (sent("user", "continue"), event("user_message", "continue"), event("agent_message", "Done."))
    assert len(rollout("one", *turns, *again).messages) == 4


def test_an_event_that_words_a_prompt_differently_counts_once() -> None:
    """The item may carry context that the event leaves out; the event takes its place."""
    both = (sent("user", "# Context from my IDE\nweave"), event("user_message", "weave"))
    assert len(rollout("one", *both).messages) == 1


def test_the_selected_model_is_known_before_its_first_answer() -> None:
    """turn_context names the model of an answer that is still to come."""
    assert rollout("one", ("turn_context", {"model": "gpt-5"})).models == ["gpt-5"]
