"""How messages of a wire log are named, and what takes some back: forks and undos.

Kimi CLI copies the lines of a fork as they are (session_fork.py), so the time of a message names it. Kimi Code's
messages are known by their place alone, as are those that its import of a session of Kimi CLI left without times; a
fork says where its own begin (`{"type":"forked"}`, written behind what `copyAgentWire` of MoonshotAI/kimi-code copied),
and an undo how many prompts it takes back (`computeUndoCut`: none where there are fewer since the context was cleared
or compacted).
"""

from __future__ import annotations

from sessiond.session import Role
from sessiond.sources.base import Memory


def name_message(role: Role, timestamp: float | None, memory: Memory) -> str | None:
    """Name a message that is met; None for one that has its place only."""
    place = memory["count"] = memory.get("count", -1) + 1
    if timestamp is not None:
        return str(timestamp)
    if role is Role.USER:
        memory.setdefault("prompts", []).append(place)
    return f"{memory['fork']} #{place}" if "fork" in memory else None


def begin_fork(time: float | str | None, memory: Memory) -> str:
    """Take back all that was copied, and name what comes by the time of the fork: the parent has the same places."""
    memory.update(fork=str(time), prompts=[], count=-1)
    return ""


def undo(prompts: int, memory: Memory) -> str | None:
    """Name the prompt from which on an undo takes back."""
    places: list[int] = memory.get("prompts", [])
    if not 0 < prompts <= len(places):
        return None
    place = places[-prompts]
    memory.update(prompts=places[:-prompts], count=place - 1)
    return f"{memory['fork']} #{place}" if "fork" in memory else f"#{place}"
