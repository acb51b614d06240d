"""Which lines of a rollout are messages, though most tell each of them twice: formats.md 2.2, field-notes A.3 Count."""

from __future__ import annotations

import re

import msgspec

from sessiond.session import Entry, Role
from sessiond.sources.base import Memory
from sessiond.sources.records import digest_of

# Codex's own words in the user's name (formats.md 2.2 message_count, field-notes A.3 response_item/message).
INJECTED = re.compile(
    rb'"(?:\s|\\[nrt])*(?:"$|# AGENTS\.md instructions for |<(?:environment_context|user_instructions|turn_aborted'
    rb"|recommended_plugins|INSTRUCTIONS|skill|subagent_notification|user_shell_command|permissions instructions)\b)"
)
CWD = re.compile(rb"<cwd>(.*?)</cwd>")


def message_of(family: str, role: Role, text: bytes, memory: Memory, *, time: str | None, api_id: str = "") -> Entry:
    """Count a message once, though most rollouts tell it twice (field-notes A.3 Count).

    Of the families, "told" (legacy events) and "item" (paginated ones) are what was said; "sent" is what went to
    the model, and counts only as long as no other came: 0.20 has nothing else. The first other one takes back what
    was sent since the last prompt, which it repeats, and from then on "sent" is silent.
    """
    if role is Role.USER and INJECTED.match(text[:128]) and (family == "sent" or text != b'""'):
        memory["cut"] = memory.get("cut") or text.startswith(b'"<turn_aborted')
        inside = CWD.search(text)
        return Entry(time=time, cwd=msgspec.json.decode(b'"' + inside[1] + b'"') if inside else None)
    if role is Role.ASSISTANT and text in (b"", b'""'):
        return Entry(time=time)
    mark, rewind = role[0] + digest_of(text), None
    if family == "sent" and role is Role.USER and _repeated(mark, memory):
        return Entry(time=time)
    if family != "sent" and not memory.get("heard"):
        rewind, *marks = memory.pop("pending", [None])
        past = {mark: n - marks.count(mark) for mark, n in memory.get("said", {}).items()}
        memory.update(heard=True, said={f + mark[4:]: n for mark, n in past.items() for f in ("told", "item")})
    # No id is in all versions, and ids such as `item-1` of migrated files are not unique: so a message is named by
    # its origin, turn and text, and by how many times that was said, which keeps two prompts "continue" apart.
    said = memory.setdefault("said", {})
    count = said[family + mark] = said.get(family + mark, 0) + 1
    key = f"{memory.get('origin')}.{memory.get('turn')}.{mark}.{count}"
    if family == "sent":
        if role is Role.USER:
            memory["pending"] = [key, "sent" + mark]
        else:
            # The API's id tells that the files of the TypeScript CLI, one a save, begin with the same history.
            key = api_id if api_id.startswith("msg_") else key
            memory["pending"] = [*memory.get("pending", [key]), "sent" + mark]
    model = memory.get("model") if role is Role.ASSISTANT else None
    return Entry(time=time, role=role, key=key, model=model, rewind=rewind)


def _repeated(mark: str, memory: Memory) -> bool:
    """Tell whether a continued task sends the first prompt once more after an abort (formats.md 2.2)."""
    first = memory.get("first")
    if first is None:
        memory.update(first=mark, cut=False)
    elif first == mark and memory["cut"]:
        return True
    else:
        memory["first"] = ""  # after another prompt, the same words are a new one
    return False
