"""gptme: docs/formats/gptme.md."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from sessiond.session import Entry, Item, Speaker, parse_time
from sessiond.sources.base import BaseSource, Memory, Root, Unit, UserDirs
from sessiond.sources.content import find, name_of, result, template
from sessiond.sources.messages import message_items
from sessiond.sources.objects import get_in
from sessiond.sources.records import ABSENT, ROLES, digest, message_role, parse, unknown_type
from sessiond.sources.side_files import SideFiles
from sessiond.sources.tokens import usage
from sessiond.sources.user_dirs import unique_paths

# The names of branches may contain hyphens and dots, but no slash.
FILE = re.compile(r"([^/]+)/(?:conversation|((?:branches|views)/[^/]+))\.jsonl", re.DOTALL)
FORK = re.compile(r"(.+)-fork-\d{8}-\d{6}", re.ASCII | re.DOTALL)
"""The name of a fork that was given none: the original's and a time."""
OWN_NAME = re.compile(r"\d{4}-\d{2}-\d{2}-", re.ASCII)
"""How the name begins that a new conversation is given. A user who forks one names the fork."""
KNOWN = frozenset([*ROLES, "system"])
INJECTED = re.compile(rb'"(?:\s|\\[nrt])*<system>')
"""How a prompt begins that the tool wrote itself, with the role `user`."""
TOKENS = ("usage.", "")
"""The places of the tokens in a message's metadata: in `usage`, or in older versions beside it."""


class _Metadata(msgspec.Struct, gc=False):
    model: str | None = None


class _Message(msgspec.Struct, gc=False):
    role: str = "?"
    content: msgspec.Raw = ABSENT
    timestamp: str | None = None
    metadata: _Metadata | None = None


MESSAGE = msgspec.json.Decoder(_Message)


class Gptme(BaseSource):
    """Conversations of gptme: a directory each, with a file of messages that is rewritten after every message."""

    tool: ClassVar[str] = "gptme"
    variables: ClassVar[tuple[str, ...]] = ("GPTME_LOGS_HOME",)
    versions: ClassVar[tuple[str, ...]] = ("0.33.0", "0.35.1")
    local_ids: ClassVar[bool] = True  # the id is a date with a random name, or one that the user gave
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch or parent is stored; nothing shows which of two named by users is a fork",
        "events.jsonl and events of branches, which repeat the messages, are not read",
        "config.toml, which may hold keys, is read for the title and the working directory only",
    )
    other_files: ClassVar[tuple[str, ...]] = (r"[^/]+/(?:.*[./])?events\.jsonl",)
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        # Everything else in the directory of a conversation: files/, tool-outputs/ and records of what was left out.
        SideFiles(
            r"(?P<id>[^/]+)/(?P<name>(?!config\.toml|workspace/|(?:.*[./])?events\.jsonl).+)",
            "attached files, full outputs, notes",
        ),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return GPTME_LOGS_HOME and the logs in the data directory."""
        own = dirs.from_variable("GPTME_LOGS_HOME")
        xdg = dirs.from_variable("XDG_DATA_HOME", "/gptme/logs")
        # platformdirs' default is below the application's author on Windows, which is its name.
        default = f"{dirs.data}/gptme/gptme/logs" if dirs.platform == "win32" else f"{dirs.data}/gptme/logs"
        for path in unique_paths(own, xdg, f"{dirs.home}/.local/share/gptme/logs", default):
            # `workspace` is a project, or a link to one.
            yield Root(path=path, depth=5, skip=frozenset(["workspace"]))

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of a conversation, of a branch that was left by an edit, or of a compacted view."""
        found = FILE.fullmatch(relative)
        if not found:
            return None
        beside = (f"{found[1]}/config.toml",)
        return Unit(native_id=found[1], stream=found[2] or "main", thread=not found[2], beside=beside)

    def context(self, beside: Mapping[str, bytes], unit: Unit) -> Entry | None:
        """Return what the settings have, title, model and working directory, and whether the name is a fork's."""
        name = unit.native_id or ""
        fork = FORK.fullmatch(name)
        origin = Entry(parent=fork[1] if fork else None, copied=fork is not None or not OWN_NAME.match(name))
        for content in beside.values():
            chat = tomllib.loads(content.decode("utf-8", "replace")).get("chat")
            cwd, title, model = (name_of(get_in(chat, key)) for key in ("workspace", "name", "model"))
            # A workspace below the home is written with ~; "@log" is one in the conversation's own directory.
            directory = os.path.expanduser(cwd) if cwd else ""
            return replace(origin, cwd=directory if os.path.isabs(directory) else None, title=title, model=model)
        return origin

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a message. What the tool adds, outputs of commands too, has the role `system`."""
        message = parse(MESSAGE, record)
        role = message_role(message.role, message.content, injected=INJECTED)
        # Messages have no ids. A fork copies their times, and two messages rarely have the same one.
        key = f"{message.timestamp}.{digest(bytes(message.content))}" if message.timestamp else None
        return Entry(
            time_ms=parse_time(message.timestamp, local=True),
            role=role,
            key=key,
            model=message.metadata.model if message.metadata else None,
            unknown=unknown_type(message.role, KNOWN),
        )

    def items(self, record: Any, entry: Entry, memory: Memory) -> Iterator[Item]:
        """Iterate a message, or the result of a call, and the tokens. Calls are in the text of the model."""
        if not isinstance(record, Mapping):
            return
        base = template(entry, Speaker.SYSTEM)
        if record.get("role") == "system" and name_of(record.get("call_id")):
            block = {"content": record.get("content"), "name": get_in(record, "metadata", "tool")}
            yield result({**block, "id": record["call_id"]}, base)
        else:
            yield from message_items({name: value for name, value in record.items() if name != "metadata"}, entry)
        metadata = record.get("metadata")
        used = {
            "input": find(metadata, *(f"{place}input_tokens" for place in TOKENS)),
            "output": find(metadata, *(f"{place}output_tokens" for place in TOKENS)),
            "cacheRead": find(metadata, *(f"{place}cache_read_tokens" for place in TOKENS)),
            "cacheWrite": find(metadata, *(f"{place}cache_creation_tokens" for place in TOKENS)),
        }
        yield from usage(used, replace(base, key=None), cost=get_in(metadata, "cost"))


SOURCES = (Gptme(),)
