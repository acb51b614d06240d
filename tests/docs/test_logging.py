"""docs/logging.md, the list of events and the calls in the source say the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sessiond.logs import LEVELS
from sessiond.logs.events import COMMON, EVENTS
from support.syntax import parse

ROOT = Path(__file__).parents[2]


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Find every `log.<level>(...)` in the daemon's source, with its position."""
    for file in sorted((ROOT / "daemon").rglob("*.py")):
        for node in ast.walk(parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                target = node.func.value
                name = target.id if isinstance(target, ast.Name) else getattr(target, "attr", "")
                if name in ("log", "_log"):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Read the table: event, level, keys."""
    rows = re.findall(r"^\| `([a-z_.]+)` \| (\w+) \| ([^|]*) \| ", (ROOT / "docs/logging.md").read_text(), re.MULTILINE)
    assert len(rows) == len({event for event, _, _ in rows})
    return {event: (level, frozenset(keys.split(", "))) for event, level, keys in rows}


def test_every_event_is_documented_with_its_keys() -> None:
    assert {event: keys for event, (_, keys) in documented().items()} == EVENTS


def test_every_call_logs_a_listed_event_with_listed_keys_at_its_documented_level() -> None:
    table = documented()
    found = 0
    for place, call in calls():
        assert isinstance(call.func, ast.Attribute)
        assert len(call.args) == 1, f"{place}: an event has one argument, its name"
        assert isinstance(call.args[0], ast.Constant), f"{place}: the name of an event is written out"
        event = call.args[0].value
        assert event in EVENTS, f"{place}: {event} is not listed in sessiond.logs.events"
        for keyword in call.keywords:
            assert keyword.arg is not None, f"{place}: keys are written out, not handed over with **"
            assert keyword.arg in EVENTS[event], f"{place}: {keyword.arg} is not a key of {event}"
        assert call.func.attr == table[event][0], f"{place}: {event} is documented as {table[event][0]}"
        found += 1
    assert found


def test_nothing_is_listed_that_is_never_logged() -> None:
    logged: dict[str, set[str]] = {}
    for _, call in calls():
        assert isinstance(call.args[0], ast.Constant)
        logged.setdefault(call.args[0].value, set()).update(keyword.arg or "" for keyword in call.keywords)
    assert logged == EVENTS


def test_names_say_what_happened_and_no_key_is_taken() -> None:
    for event, keys in EVENTS.items():
        assert re.fullmatch(r"[a-z_]+\.[a-z_]+(ed|t|nd|k)", event), f"{event} is not in the past tense"
        assert not keys & COMMON
        assert all(re.fullmatch(r"[a-z][a-z_]*", key) for key in keys)
