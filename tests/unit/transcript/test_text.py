"""Conversations in the form for readers."""

from __future__ import annotations

from typing import Any

import msgspec

from sessiond.session import Item, ItemKind, Media, Speaker
from sessiond.transcript import Place, Placed, Thread, converse
from sessiond.transcript.text import Style, render

MESSAGE, THOUGHT, CALL, RESULT, NOTE = (
    ItemKind.MESSAGE,
    ItemKind.THOUGHT,
    ItemKind.CALL,
    ItemKind.RESULT,
    ItemKind.NOTE,
)
USER, MODEL, TOOL = Speaker.USER, Speaker.ASSISTANT, Speaker.TOOL


def thread(name: str, *items: Item, main: bool = True) -> Thread:
    return Thread(name, main, [Placed(Place(at, 1), item) for at, item in enumerate(items)])


def item(kind: ItemKind, speaker: Speaker, text: str = "", **facts: Any) -> Item:
    return Item(kind=kind, speaker=speaker, text=text, **facts)


def call(name: str, number: str, **given: object) -> Item:
    return item(CALL, MODEL, name=name, call=number, arguments=msgspec.Raw(msgspec.json.encode(given)))


def shown(*threads: Thread, **style: Any) -> list[str]:
    return list(render(converse(threads), Style(**style)))


def test_a_conversation_has_headings_calls_and_results() -> None:
    lines = shown(
        thread(
            "main",
            item(MESSAGE, USER, "List the files"),
            item(THOUGHT, MODEL, "hm"),
            item(MESSAGE, MODEL, "I look.", model="model-1"),
            call("Bash", "c1", command="ls\n-la"),
            item(RESULT, TOOL, "a\nb", call="c1"),
            item(RESULT, TOOL, "no such file", call="c2", failed=True),
            item(MESSAGE, MODEL, "Two.", model="model-1"),
        )
    )
    assert lines == [
        "",
        "You",
        "  List the files",
        "",
        "model-1",
        "  (thinks) hm",
        "  I look.",
        "  > Bash ls -la",
        "  = a",
        "    b",
        "  ! no such file",
        "",
        "model-1",
        "  Two.",
    ]


def test_a_call_right_after_a_prompt_is_not_the_users() -> None:
    lines = shown(thread("main", item(MESSAGE, USER, "List the files"), call("Bash", "c1", command="ls")))
    assert lines == ["", "You", "  List the files", "", "Assistant", "  > Bash ls"]


def test_long_results_are_folded_unless_all_is_asked_for() -> None:
    output = thread("main", item(RESULT, TOOL, "\n".join(map(str, range(20)))))
    folded = shown(output)
    assert (len(folded), folded[-1]) == (7, "    ... 14 more lines (--full)")
    assert len(shown(output, full=True)) == 20


def test_a_subagent_is_at_its_call_and_no_stream_is_left_out() -> None:
    main = thread("main", call("Task", "c1", prompt="count"), item(RESULT, TOOL, "12", call="c1", stream="agent-a"))
    agent = thread("agent-a", item(MESSAGE, USER, "count"), item(MESSAGE, MODEL, "12"), main=False)
    other = thread("agent-b", item(MESSAGE, MODEL, "alone"), main=False)
    lines = shown(other, agent, main)
    order = ["  > Task count", "    count", "    12", "  = 12", "    alone"]
    assert [line for line in lines if line in order] == order
    assert "  You  (agent-a)" in lines and "  Assistant  (agent-b)" in lines


def test_two_subagents_that_call_each_other_end() -> None:
    one = thread("a", call("Task", "1", prompt="x"), item(RESULT, TOOL, "r", call="1", stream="b"))
    two = thread("b", call("Task", "2", prompt="y"), item(RESULT, TOOL, "s", call="2", stream="a"), main=False)
    assert [line for line in shown(one, two) if ">" in line] == ["  > Task x", "    > Task y"]


def test_nothing_draws_on_the_terminal() -> None:
    nasty = "a\x1b[2J\u202eb\rc"
    lines = shown(
        thread("main", item(MESSAGE, USER, nasty), item(MESSAGE, MODEL, nasty), call(nasty, "1", command=nasty)),
        thread("a\x1b[1m", item(NOTE, Speaker.SYSTEM, nasty), item(RESULT, TOOL, nasty), main=False),
        width=60,
    )
    assert not set("\x1b\u202e\r") & set("".join(lines))


def test_a_terminal_gets_markdown_and_wrapped_words() -> None:
    said = thread("main", item(MESSAGE, MODEL, "# Head\n\n" + "word " * 30), item(MESSAGE, USER, "long " * 30))
    lines = shown(said, width=40)
    assert max(map(len, lines)) <= 40
    assert not any(line.lstrip().startswith("#") for line in lines)
    assert "\x1b[" not in "".join(lines)
    assert "\x1b[" in "".join(shown(said, width=40, color=True))


def test_a_terminal_shows_what_looks_like_a_tag() -> None:
    """It may be code without backticks, or a block that a browser would fold. Nothing of it is dropped."""
    text = "Option<String> and List<int> x\n\n<details><summary>More</summary>\nhidden\n</details>\n\n**bold** `a<b>`"
    screen = "\n".join(shown(thread("main", item(MESSAGE, MODEL, text)), width=80))
    assert "Option<String> and List<int> x" in screen
    assert "<details><summary>More</summary>" in screen and "hidden" in screen and "</details>" in screen
    assert "bold" in screen and "**" not in screen and "a<b>" in screen


def test_a_terminal_shows_what_markdown_leaves_out() -> None:
    """The target of a link may be any text, and a parser ends at some depth. An entity is no invisible character."""
    deep = "\n".join(f"{'  ' * depth}- point {depth}" for depth in range(15)) + "\n\nafter all"
    for text in ("[note]: behind the brackets", deep, "> " * 30 + "quoted", "1. " * 30 + "numbered"):
        screen = " ".join(" ".join(shown(thread("main", item(MESSAGE, MODEL, text)), width=80)).split())
        for line in text.splitlines():
            assert line.strip("> 0123456789.-") in screen, line
    for code in ("x &#x202e; y", "`x` &#8203; *y* &rlm;", "[x &#xfeff;](z)", "- &ZeroWidthSpace;\n\n    &lrm;"):
        screen = "".join(shown(thread("main", item(MESSAGE, MODEL, code)), width=80))
        assert not set(screen) & set("\u202e\u200b\u200f\u200e\ufeff"), code


def test_a_pipe_gets_the_text_as_it_was_written() -> None:
    assert f"  # Head {'word ' * 60}".rstrip() in shown(thread("main", item(MESSAGE, MODEL, f"# Head {'word ' * 60}")))


def test_what_the_tool_added_is_short_and_media_have_no_bytes() -> None:
    added = item(MESSAGE, USER, "\n".join(["reminder"] * 9), injected=True)
    picture = item(MESSAGE, USER, media=(Media(type="image/png", size=1234, name="loom.png"),))
    lines = shown(thread("main", added, picture))
    assert "  ... 6 more lines (--full)" in lines
    assert "  [loom.png, image/png, 1,234 bytes]" in lines


def test_what_the_model_does_never_looks_like_the_users_words() -> None:
    """A thought or a call after a prompt has a heading; the model's name comes from the rest of its turn."""
    lines = shown(
        thread(
            "main",
            item(MESSAGE, USER, "Weave"),
            call("Bash", "c1", command="weave"),
            item(RESULT, TOOL, "woven", call="c1"),
            item(MESSAGE, MODEL, "Woven.", model="model-1"),
            item(MESSAGE, USER, "Again"),
            item(THOUGHT, MODEL, "why?"),
        )
    )
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "You",
        "model-1",
        "model-1",
        "You",
        "Assistant",
    ]


def test_messages_that_a_tool_wrote_into_two_streams_come_once() -> None:
    """By key and by call, in the order in which the streams begin; a subagent keeps its own."""
    old = [item(MESSAGE, USER, "Weave", key="k1", time_ms=1000), call("Bash", "c1", command="weave")]
    new = [item(MESSAGE, USER, "Weave", key="k1", time_ms=1000), item(MESSAGE, USER, "Dye", key="k2", time_ms=5000)]
    lines = shown(
        thread("new", call("Bash", "c1", command="weave"), new[1]),
        thread("old", *old),
        thread("main", *new),
        thread("agent", item(MESSAGE, USER, "Weave", key="k1"), main=False),
    )
    assert [line.strip() for line in lines if line.strip() in ("Weave", "Dye", "> Bash weave")] == [
        "Weave",
        "Dye",
        "> Bash weave",
        "Weave",
    ]
