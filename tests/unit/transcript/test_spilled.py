"""Long transcripts: items and steps that are kept in a file read the same as those in memory."""

from __future__ import annotations

import json
import random
import tracemalloc
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from sessiond.cli.output import to_json
from sessiond.session import Item, ItemKind, Media, Session, Speaker, Usage
from sessiond.transcript import Merger, Place, Placed, Texts, Thread, atif, converse, fields, spilled, steps
from sessiond.transcript.spilled import Spilled

RECORD = Session(
    id=UUID(int=7),
    tool="codex",
    tool_version=None,
    started_at=datetime(2026, 9, 1, tzinfo=UTC),
    ended_at=None,
    model="model-1",
    working_directory="/home/ada/loom",
    git_branch=None,
    source_path=None,
    message_count=2,
    machine_id="desktop",
)


def numbers(in_memory: int) -> Spilled[int]:
    return Spilled[int](Texts(), lambda value: str(value).encode(), int, in_memory=in_memory)


@pytest.mark.parametrize("seed", range(20))
def test_a_list_in_a_file_is_a_list(seed: int) -> None:
    """After any changes, values and numbers are those of a plain list with None for what was removed."""
    chosen = random.Random(seed)
    found, model = numbers(chosen.randrange(6)), list[int | None]()
    for value in range(60):
        action = chosen.randrange(6)
        if action < 3 or not model:
            found.append(value)
            model.append(value)
        elif action == 3:
            found[at] = model[at] = value if (at := chosen.randrange(len(model))) % 2 else None
        elif action == 4:
            count = chosen.randrange(len(model) + 1)
            found.truncate(count)
            del model[count:]
        assert [found[number] for number in range(len(found))] == model
        assert [found.is_gone(number) for number in range(len(found))] == [each is None for each in model]
        assert list(found) == [each for each in model if each is not None]


def transcript(seed: int, count: int = 120) -> list[Item]:
    """Return items as sources give them: answers in several states, calls, results, pieces, rewinds and usage."""
    chosen, found = random.Random(seed), list[Item]()
    for number in range(count):
        key = f"m{chosen.randrange(number + 1)}" if chosen.random() < 0.3 else f"m{number}"
        kind = chosen.choice([*ItemKind, ItemKind.MESSAGE, ItemKind.RESULT])
        speaker = chosen.choice([Speaker.USER, Speaker.ASSISTANT, Speaker.ASSISTANT, Speaker.SYSTEM])
        made = Item(kind=kind, speaker=speaker, text=f"text {number} " * chosen.choice([1, 60]), key=key)
        if kind is ItemKind.CALL or kind is ItemKind.RESULT:
            arguments = msgspec.Raw(b'{"command":"ls"}')
            call = f"c{chosen.randrange(max(1, number // 3))}"
            made = replace(made, call=call, name="Bash", arguments=arguments if kind is ItemKind.CALL else None)
        if kind is ItemKind.USAGE:
            made = replace(made, usage=Usage(input=number, output=1, cost=chosen.choice([None, 0.25])))
        extra = chosen.randrange(12)
        if extra == 0:
            made = replace(made, continues=True)
        elif extra == 1:
            made = replace(made, replaces=True)
        elif extra == 2:
            made = replace(made, model="model-2", media=(Media(type="image/png", size=3),), time_ms=1_780_000_000_000)
        elif extra == 3 and number > count // 2 and chosen.random() < 0.2:
            made = Item(kind=ItemKind.NOTE, speaker=Speaker.SYSTEM, rewind=key)
        found.append(made)
    return found


def shown(items: list[Item]) -> tuple[list[dict[str, object]], object]:
    """Return the conversation and the trajectory of a session with two streams."""
    threads = []
    for name, part in (("main", items), ("second", items[::3])):
        merger = Merger(Texts())
        for at, item in enumerate(part):
            merger.add(Placed(Place(at, 1), item))
        threads.append(Thread(name, True, merger.items))
    said = [fields(step.thread.name, step.placed) for step in converse(threads)]
    return said, json.loads("\n".join(atif.lines(RECORD, threads, to_json)))


@pytest.mark.parametrize("seed", range(15))
def test_a_transcript_reads_the_same_from_a_file(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is retracted, replaced, continued, or in two streams."""
    items = transcript(seed)
    expected = shown(items)
    monkeypatch.setattr(spilled, "IN_MEMORY", 3)
    monkeypatch.setattr(steps, "WINDOW", 2)
    assert shown(items) == expected


def test_values_that_messagepack_lacks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged records have half surrogate pairs, and numbers of more than 64 bits."""
    monkeypatch.setattr(spilled, "IN_MEMORY", 0)
    merger = Merger(Texts())
    item = Item(
        kind=ItemKind.NOTE, speaker=Speaker.SYSTEM, text="half \ud800", time_ms=1 << 70, media=(Media(type="x"),)
    )
    merger.add(Placed(Place(1, 2), item))
    assert [placed.whole for placed in merger.items] == [item]


def test_many_items_take_little_memory() -> None:
    """A gigabyte has some 400,000 items. In memory each takes about 600 bytes, here a tenth."""
    texts = Texts(in_memory=1 << 16)
    tracemalloc.start()
    try:
        merger = Merger(texts)
        for number in range(spilled.IN_MEMORY):
            merger.add(
                Placed(Place(number, 1), Item(kind=ItemKind.MESSAGE, speaker=Speaker.USER, text=f"{number}" * 9))
            )
        before = tracemalloc.get_traced_memory()[0]
        for number in range(5000):
            merger.add(
                Placed(Place(number, 1), Item(kind=ItemKind.MESSAGE, speaker=Speaker.USER, text=f"{number}" * 9))
            )
        assert (tracemalloc.get_traced_memory()[0] - before) / 5000 < 60
    finally:
        tracemalloc.stop()
