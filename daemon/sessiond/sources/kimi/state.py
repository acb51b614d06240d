"""What Kimi keeps beside wire logs: a state.json in each session, and kimi.json (formats.md 2.27, field-notes B.2)."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import md5

import msgspec

from sessiond.session import Entry
from sessiond.sources.base import Portrait, Unit
from sessiond.sources.objects import encode
from sessiond.sources.records import parse

COPIED = ("Fork: ", "Undo: ")
"""How Kimi CLI begins the title of what it copied (session_fork.py); an undo is a fork as well."""


class _WorkDir(msgspec.Struct):
    path: str


class _State(msgspec.Struct, rename="camel"):
    """kimi.json and both state.json."""

    work_dirs: list[_WorkDir] = msgspec.field(name="work_dirs", default=[])
    custom_title: str | None = msgspec.field(name="custom_title", default=None)
    title: str | None = None
    cwd: str | None = None
    work_dir: str | None = None
    forked_from: str | None = None


STATE = msgspec.json.Decoder(_State)


def told_beside(beside: Mapping[str, bytes], unit: Unit) -> Entry:
    """Tell the working directory, and whether it is a fork, which is to be known before its copies are compared.

    Kimi CLI's directory is the MD5 of a path that kimi.json has (field-notes B.1.7).
    """
    cwd, copied = None, False
    for content in beside.values():
        state = STATE.decode(content)
        cwd, copied = cwd or state.cwd or state.work_dir, copied or _is_copy(state)
        for known in state.work_dirs:
            digest = md5(known.path.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
            if unit.beside[0].split("/")[0].endswith(digest):
                cwd = known.path
    return Entry(cwd=cwd, copied=copied)


def lay_out_state(content: bytes, unit: Unit) -> Portrait:
    """Take of a state what is looked at; titles come later, and are changed. Raises: msgspec.DecodeError."""
    state = parse(STATE, content)
    title, parent = state.custom_title or state.title, state.forked_from
    known = {
        "title": title,
        "parent": parent and parent.removeprefix("ses_"),
        "copied": _is_copy(state),
    }
    told = {name: value for name, value in known.items() if value}
    records = [encode({"type": "state", **told})] if told else []
    return Portrait(native_id=unit.native_id or "", stream=unit.stream, records=records)


def _is_copy(state: _State) -> bool:
    return state.forked_from is not None or (state.custom_title or "").startswith(COPIED)
