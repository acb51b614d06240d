"""The items that a reader sees of every sample agree with the messages that were counted."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import sessiond
from conformance import engine
from sessiond.session import Entry, Fold, ItemKind, Role
from sessiond.sources import find_sources
from sessiond.sources.base import Source
from sessiond.sources.damaged import DAMAGED
from sessiond.transcript import Merger, Placed, Texts, merge, read_items
from support.each_tool import each_tool
from support.sample_tree import NAMES, built
from support.syntax import parse

sample = each_tool(NAMES)


@cache
def streams(name: str) -> list[tuple[Source, list[bytes]]]:
    """Return the source and the records of every stream of a sample."""
    read = []
    for location in engine.locations(built(name)):
        if location.source.tool == name.split("/")[0] and location.unit.media_type is None:
            with engine.streams(location) as found:
                read += [(location.source, list(stream.records())) for stream in found]
    return read


def counted(placed: list[Placed]) -> Fold:
    """Fold the messages that the counted items belong to. Items of a record without a key are one message."""
    fold, last = Fold(), None
    for place, item, *_ in placed:
        if item.counts and (item.key is not None or (place, item.speaker) != last):
            fold.add([Entry(role=Role(item.speaker.value), key=item.key)], engine.NOW_MS)
            last = place, item.speaker
    return fold


@sample
def test_every_message_that_counts_has_an_item_and_no_other_does(name: str) -> None:
    for source, records in streams(name):
        fold = Fold()
        for record in records:
            engine.fold_lines(source, fold, record + b"\n")
        shown = merge(read_items(source, records))
        assert list(counted(shown).messages) == list(fold.messages), [placed.item for placed in shown]


@sample
def test_texts_that_are_kept_outside_of_memory_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is retracted, replaced or continued: each item has the text that it has without that."""
    monkeypatch.setattr("sessiond.transcript.items.LONG", 1)
    for source, records in streams(name):
        merger = Merger(Texts(in_memory=100))
        for placed in read_items(source, records):
            merger.add(placed)
        assert [each.whole for each in merger.items] == [each.item for each in merge(read_items(source, records))]
        assert not [each for each in merger.items if len(each.item.text) > 1]


CALLS_IN_TEXT = ("gptme/",)
"""Samples of tools whose calls are part of the text of an answer."""


@sample
def test_a_result_belongs_to_a_call(name: str) -> None:
    """A stream with results has calls, and some with the same ids; a reader can't follow the session otherwise."""
    for source, records in streams(name):
        items = [placed.item for placed in read_items(source, records)]
        calls = {item.call for item in items if item.kind is ItemKind.CALL}
        results = {item.call for item in items if item.kind is ItemKind.RESULT}
        assert calls or not results or name.startswith(CALLS_IN_TEXT), items
        if calls and results:
            assert calls & results, items


@sample
def test_items_are_of_the_record_alone_and_its_past(name: str) -> None:
    """A permalink shows the same item however often the stream is read. Text never has a lone surrogate."""
    for source, records in streams(name):
        first, second = list(read_items(source, records)), list(read_items(source, records))
        assert first == second
        for _, item, *_ in first:
            item.text.encode()
            assert item.text or item.kind is not ItemKind.MESSAGE or item.media
            if item.counts:
                assert item.speaker in ("user", "assistant")


NOTHING = Entry(role=Role.USER, key="k", more=(Entry(role=Role.ASSISTANT), Entry()))
ODD = (None, 7, "text", [], {}, [1], ["x"], [[]], {"type": 7}, [{"type": "text"}], {"text": {"x": [1]}}, "\ud800")


@pytest.mark.parametrize("source", find_sources(), ids=lambda source: type(source).__name__)
def test_a_field_of_another_type_costs_its_record_only(source: Source) -> None:
    """A reader gets items or one DAMAGED item, whatever a tool wrote into a field."""
    for name in NAMES:
        if name.split("/")[0] != source.tool:
            continue
        for own, records in streams(name):
            if own is not source:
                continue
            for record in records[:4]:
                for changed in altered(json.loads(record)):
                    with contextlib.suppress(*DAMAGED):
                        list(source.items(changed, NOTHING, {}))


def altered(record: Any) -> Iterator[Any]:
    """Iterate the record with each of its fields, two levels deep, replaced by each odd value."""
    yield from ODD
    if not isinstance(record, dict):
        return
    for name, value in record.items():
        for odd in ODD:
            yield record | {name: odd}
        if isinstance(value, dict):
            for inner in value:
                for odd in ODD:
                    yield record | {name: value | {inner: odd}}


def test_every_source_reads_items() -> None:
    """For every tool, some records are shown as messages rather than as records of unknown shape."""
    shown: dict[str, set[ItemKind]] = {source.tool: set() for source in find_sources()}
    for name in NAMES:
        for source, records in streams(name):
            shown[source.tool] |= {placed.item.kind for placed in read_items(source, records)}
    assert not [tool for tool, kinds in shown.items() if ItemKind.MESSAGE not in kinds]


def test_what_shows_items_knows_no_tool() -> None:
    """Everything that is shown loops over items; a tool's peculiarities belong into its source."""
    package = Path(sessiond.__file__).parent
    commands = ("show", "export", "follow", "threads", "conversation", "session_view", "streams", "resume")
    files = [*package.glob("transcript/*.py"), *(package / "cli" / f"{name}.py" for name in commands)]
    tools = {source.tool for source in find_sources()}
    named = {
        (file.name, node.value)
        for file in files
        for node in ast.walk(parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in tools
    }
    assert not named
