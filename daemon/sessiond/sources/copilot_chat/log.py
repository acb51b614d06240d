"""The log of what changed in a chat, which VS Code keeps since 2026 (formats.md 2.5 Storage)."""

from __future__ import annotations

from typing import Any

from sessiond.sources.objects import OBJECT
from sessiond.sources.records import parse


def replay(log: bytes) -> dict[str, Any]:
    """Replay a mutation log: 0 the whole, 1 set, 2 push (first cut to `i`), 3 delete (formats.md 2.5).

    The last line may be half there. A damaged one is left out, as is one that fits nowhere.
    """
    root: dict[str, Any] = {}
    for line in log.split(b"\n")[:-1]:
        try:
            change = parse(OBJECT, line)
            if change.get("kind") == 0:
                root = {"": change["v"]}
            else:
                _apply(root, change)
        except (ValueError, LookupError, TypeError):
            continue
    chat = root.get("")
    return chat if isinstance(chat, dict) else {}


def _apply(root: dict[str, Any], change: dict[str, Any]) -> None:
    steps: list[Any] = ["", *list(change["k"])]
    *way, last = steps
    place: Any = root
    for step in way:
        place = place[step]
    match change.get("kind"):
        case 1 if isinstance(place, list) and last == len(place):
            place.append(change.get("v"))
        case 1:
            place[last] = change.get("v")
        case 2:
            if isinstance(place, dict) and not isinstance(place.get(last), list):
                place[last] = []
            if "i" in change:
                del place[last][change["i"] :]
            place[last].extend(change.get("v") or [])
        case 3 if isinstance(place, dict):
            place.pop(last, None)
        case 3:
            del place[last]
