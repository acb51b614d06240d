"""The last state of a transcript: retracted items are gone, and items that were written in pieces are one."""

from __future__ import annotations

from sessiond.session import Item, ItemKind, Speaker
from sessiond.sources import find_sources
from sessiond.transcript import Place, Placed, fields, merge, read_items


def said(text: str, speaker: Speaker = Speaker.ASSISTANT, **facts: object) -> Item:
    return Item(kind=ItemKind.MESSAGE, speaker=speaker, text=text, **facts)  # type: ignore[arg-type]


def merged(*items: Item) -> list[str]:
    return [placed.item.text for placed in merge(Placed(Place(at, 1), item) for at, item in enumerate(items))]


def test_a_rewind_takes_back_a_message_and_all_later_ones() -> None:
    back = Item(kind=ItemKind.NOTE, speaker=Speaker.SYSTEM, rewind="b")
    before = said("one", key="a"), said("two", key="b"), said("three", key="c")
    assert merged(*before, back, said("new")) == ["one", "new"]


def test_a_rewind_to_a_message_that_is_not_there_takes_back_all() -> None:
    assert merged(said("one", key="a"), Item(kind=ItemKind.NOTE, speaker=Speaker.SYSTEM, rewind="")) == []


def test_a_later_state_replaces_all_items_of_the_message() -> None:
    first = [said("let me", key="m"), said("half", key="m"), said("between", key="other")]
    assert merged(*first, said("whole", key="m", replaces=True)) == ["between", "whole"]


def test_chunks_of_one_speaker_are_joined() -> None:
    assert merged(said("Wea"), said("ving", continues=True)) == ["Weaving"]


def test_a_chunk_after_another_speaker_stands_alone() -> None:
    assert merged(said("Wea"), said("stop", Speaker.USER), said("ving", continues=True)) == ["Wea", "stop", "ving"]


def test_the_position_is_that_of_the_record() -> None:
    claude = next(source for source in find_sources() if source.tool == "claude-code")
    line = b'{"type":"user","uuid":"u1","message":{"role":"user","content":"hi"}}'
    found = list(read_items(claude, [b"", line, b"", line]))
    assert [placed.place for placed in found] == [Place(1, len(line)), Place(len(line) + 3, len(line))]


def test_a_damaged_record_is_a_note_and_stops_nothing() -> None:
    claude = next(source for source in find_sources() if source.tool == "claude-code")
    line = b'{"type":"user","uuid":"u1","message":{"role":"user","content":"hi"}}'
    texts = [placed.item.text for placed in read_items(claude, [line[:20], line, line + line])]
    assert texts == ["a damaged record of 20 bytes", "hi", "hi", "hi"]


def test_the_stream_of_a_subagent_does_not_replace_that_of_the_record() -> None:
    """JSON has both: the stream with the call, and the one that it began."""
    call = Item(kind=ItemKind.CALL, speaker=Speaker.ASSISTANT, text="Agent", stream="agent-1")
    assert fields("main", Placed(Place(5, 7), call)) == {
        "stream": "main",
        "offset": 5,
        "length": 7,
        "kind": "call",
        "speaker": "assistant",
        "text": "Agent",
        "subagent": "agent-1",
    }
