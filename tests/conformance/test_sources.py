"""Every source keeps the same promises on every sample of its tool.

A sample is a home directory with the sessions of one version and one story, and `expected.json`: what its sessions
are. The samples are written by hand in the shape that the tools were seen to write (docs/formats).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance import engine
from sessiond.ingest import Location
from sessiond.ingest.pipeline import decode
from sessiond.session import Entry, Fold
from sessiond.sources import find_sources
from sessiond.sources.base import Kind, Source, Unit, UserDirs
from support.each_tool import each_tool
from support.sample_tree import NAMES, built, expected

SOURCES = find_sources()

sample = each_tool(NAMES)
each_source = pytest.mark.parametrize("source", SOURCES, ids=[type(source).__name__ for source in SOURCES])


def golden(found: engine.Found) -> dict[str, Any]:
    """Show a session as expected.json does: without the machine and its paths."""
    record = msgspec.to_builtins(found.session)
    del record["machine_id"], record["source_path"]
    for key in ("started_at", "ended_at"):
        moment = getattr(found.session, key)
        record[key] = moment and moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record |= {"parent": found.parent, "streams": found.streams, "title": found.title, "unknown": found.unknown}
    return record | ({"side_files": found.side_files} if found.side_files else {})


def units(name: str) -> Iterator[Location]:
    """List the units with records in a sample. A tool may have two sources, for its old and its new."""
    found = (each for each in engine.locations(built(name)) if each.source.tool == name.split("/")[0])
    return (each for each in found if each.unit.media_type is None)


def contents(name: str) -> Iterator[tuple[Source, Unit, bytes]]:
    """List the units of a sample with their unpacked content; that of a document is as it is in its file."""
    for location in units(name):
        if location.unit.kind is Kind.DOCUMENT:
            yield location.source, location.unit, Path(location.path).read_bytes()
        else:
            with engine.streams(location) as streams:
                yield location.source, location.unit, b"".join(map(engine.content, streams))


def lines(name: str) -> Iterator[tuple[Source, bytes]]:
    """List every record of a sample."""
    for location in units(name):
        with engine.streams(location) as streams:
            for stream in streams:
                yield from ((location.source, record) for record in stream.records())


def folded(source: Source, content: bytes, chunk: int | None = None) -> Fold:
    """Fold content that arrives in chunks, with a restart of the daemon after each that ended a line."""
    fold, rest = Fold(), b""
    for start in range(0, len(content), chunk or len(content) or 1):
        rest += content[start : start + (chunk or len(content))]
        if b"\n" in rest:
            rest = engine.fold_lines(source, fold, rest)
            fold = msgspec.msgpack.decode(msgspec.msgpack.encode(fold), type=Fold)
    return fold


@sample
def test_a_sample_folds_to_its_sessions(name: str) -> None:
    """Record, parent, title, streams and drift are as the sample says, and nothing in it counts as damaged."""
    found = engine.capture(built(name))
    sessions = [golden(found[identity]) for identity in sorted(found)]
    shown = json.dumps(sessions, indent=1, ensure_ascii=False, default=str)
    assert sessions == expected(name), f"what is found, to be counted by hand before it is expected:\n{shown}"
    assert not any(item.damaged for item in found.values())


@sample
def test_a_stream_that_grows_folds_to_the_same(name: str) -> None:
    """A stream that arrives byte by byte, with a restart behind every line, gives the fold of the whole."""
    for source, unit, content in contents(name):
        if unit.kind is Kind.LINES:
            whole = folded(source, content)
            for chunk in (1, 7, 500):
                assert folded(source, content, chunk) == whole, f"{chunk} bytes at a time"


@sample
def test_a_half_document_is_refused(name: str) -> None:
    """A document met in the middle of a write raises ValueError; it gives no shorter session.

    Where a tool appends to what we read as a document (a log that is replayed, a text), its first half is a whole one.
    """
    for source, unit, content in contents(name):
        if unit.kind is Kind.DOCUMENT and content[:1] in b"{[" and b"\n{" not in content:
            for end in range(len(content) - 1):
                with pytest.raises(ValueError):
                    list(source.project({"document": content[:end]}, unit))  # type: ignore[attr-defined]


@sample
def test_a_record_says_the_same_twice(name: str) -> None:
    """Decoding depends on the record and the memory alone, and the memory is made of JSON types."""
    for source, line in lines(name):
        first: dict[str, Any] = {}
        second: dict[str, Any] = {}
        assert source.decode(line, first) == source.decode(line, second)
        assert first == second == msgspec.msgpack.decode(msgspec.msgpack.encode(first))


def injuries(line: bytes) -> Iterator[bytes]:
    """Damage a record in ways that disks, crashes and foreign tools do."""
    middle = len(line) // 2
    yield from (line[:end] for end in range(0, len(line), max(1, len(line) // 16)))
    for position in range(0, len(line), max(1, len(line) // 64)):
        for bit in (0x01, 0x20, 0x80):
            yield line[:position] + bytes([line[position] ^ bit]) + line[position + 1 :]
    for foreign in (b"\0", b"\0" * 4096, b"\xff\xfe", b"\xc3", "\u2028\u0085".encode(), b"\\ud83d", b"\\", b'"', b"\r"):
        yield line[:middle] + foreign + line[middle:]
    yield from (b"", b"null", b"[]", b"{}", b"1", b'"x"', b"\xef\xbb\xbf" + line, line + line)


def foreign_values(line: bytes) -> Iterator[bytes]:
    """Give fields of a record values of another type, or too deep or too long ones."""
    for value in (b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b"-1e999", b"null", b"[]", b'"x"'):
        for key in (b"message", b"payload", b"attachment", b"timestamp", b"unheard_of", b"git", b"content", b"uuid"):
            yield line.removesuffix(b"}") + b',"' + key + b'":' + value + b"}"
    yield b"[" * 100_000 + b"]" * 100_000


def kind_of(line: bytes) -> object:
    """Return the names of a record's fields with their types, and the words in them, such as its type and its role."""
    record = json.loads(line)
    if not isinstance(record, dict):
        return type(record)
    words = {value for value in record.values() if isinstance(value, str) and value.replace("_", "").isalpha()}
    return frozenset(words), frozenset((name, type(value)) for name, value in record.items())


@sample
def test_damage_raises_nothing_else(name: str) -> None:
    """For any content of a line, decode returns or raises ValueError (msgspec.DecodeError is one)."""
    kinds = set[object]()
    for source, line in list(lines(name))[:12]:
        # A value that is a megabyte takes long to parse: records of one kind differ in nothing that it could meet.
        new = kind_of(line) not in kinds
        kinds.add(kind_of(line))
        for injured in (*injuries(line), *(foreign_values(line) if new else ())):
            try:
                entry = source.decode(injured, {})
            except ValueError:
                continue
            assert entry is None or isinstance(entry, Entry)


@sample
def test_a_damaged_line_harms_no_other(name: str) -> None:
    """Records that can't be read are counted, and all others give the same as without them."""
    broken = [b'{"type":', b"\0\0\0", b"[" * 100_000, b'{"type":"user","message":{"content":"\xff', b"\xff"]
    for source, unit, content in contents(name):
        if unit.kind is not Kind.LINES:
            continue
        good = content.split(b"\n")[:-1]
        worse = b"".join(line + b"\n" + broken[i % len(broken)] + b"\n" for i, line in enumerate(good))
        fold = folded(source, worse)
        zeros = sum(1 for number in range(len(good)) if number % len(broken) == 1)  # left by a power cut: nothing lost
        assert fold.damaged == len(good) - zeros
        fold.damaged = 0
        assert fold == folded(source, content)


@sample
def test_a_line_ends_at_a_newline_alone(name: str) -> None:
    """U+2028, U+0085 and a vertical tab may occur in JSON strings, and do not end a record."""
    for source, unit, content in contents(name):
        if unit.kind is not Kind.LINES:
            continue
        folds = []
        for more in (b'{"unheard of":"a b"}\n', '{"unheard of":"a\u2028b\u2029c\u0085d"}\n'.encode()):
            folds.append(Fold())
            decode(source, content + more, folds[-1], engine.NOW_MS)
        assert folds[0] == folds[1]


@sample
def test_a_half_emoji_does_not_cost_its_message(name: str) -> None:
    """JavaScript writes lone surrogates, which strict parsers refuse: the rest of the message is read."""
    for source, line in lines(name):
        if not line.endswith(b"}"):
            continue
        cut = line.removesuffix(b"}") + b',"preview":"cut \\ud83d","pair":"\\ud83d\\ude00"}'
        assert source.decode(cut, {}) == source.decode(line, {})


NASTY = st.text(st.characters(codec=None) | st.sampled_from("/.\n\0\ud800-"), max_size=60)
UUIDS = st.uuids().map(str)
LIKELY = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "-home-ada/", "2026/04/01/", "a/.claude/projects/-b/", "../", "/", "x\n/"]),
    st.sampled_from(["", "rollout-2026-04-01T12-00-00-", "rollout-2026-04-01-", "agent-", ".rollout-"]),
    UUIDS,
    st.sampled_from(["", "/subagents/agent-ab", "/subagents/workflows/wf_1/agent-ab", "/tool-results/x"]),
    st.sampled_from(["", ".jsonl", ".jsonl.zst", ".json", ".jsonl\n", ".jsonl.tmp", ".JSONL"]),
)


@settings(max_examples=500)
@given(path=NASTY | LIKELY)
def test_unit_is_total(path: str) -> None:
    """Each source gives an answer for any path. Names in it have no control characters or surrogates, so they can be
    sent.
    """
    for source in SOURCES:
        unit = source.unit(path)
        if unit is not None:
            for word in filter(None, (unit.native_id, unit.stream, unit.parent)):
                assert word.isprintable(), source
                word.encode()


@each_source
def test_roots_are_absolute_and_once(source: Source) -> None:
    """A root is listed once, is below the home or in a directory of the environment, and need not exist."""
    for platform in ("linux", "darwin", "win32"):
        paths = [root.path for root in source.roots(UserDirs(home="/nowhere", environ={}, platform=platform))]
        assert paths, platform
        assert len(paths) == len(set(paths)), platform
        assert all(os.path.isabs(path) for path in paths), platform


class Environment(dict[str, str]):
    """An environment that has every variable, except those of the directories of applications."""

    def __init__(self, value: str) -> None:
        super().__init__()
        self.value = value

    def get(self, key: str, default: Any = None) -> Any:
        return default if key in ("", "APPDATA", "LOCALAPPDATA") else self[key]

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> str:
        return self.value.format(key)


@each_source
def test_an_override_is_a_directory_or_nothing(source: Source) -> None:
    """A relative path is not a root, as the tool's directory is unknown. A trailing slash is removed."""
    for platform in ("linux", "darwin"):
        usual = list(source.roots(UserDirs(home="/nowhere", environ={}, platform=platform)))
        relative = UserDirs(home="/nowhere", environ=Environment("some/{}"), platform=platform)
        assert list(source.roots(relative)) == usual, platform
        slashed = UserDirs(home="/nowhere", environ=Environment("/elsewhere/{}/"), platform=platform)
        paths = [root.path for root in source.roots(slashed)]
        assert len(paths) == len(set(paths)), platform
        wrong = [path for path in paths if not os.path.isabs(path) or "//" in path or path.endswith("/")]
        assert wrong == [], platform


class AskedEnvironment(dict[str, str]):
    """An empty environment that remembers which variables were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return default


@each_source
def test_each_variable_that_moves_sessions_is_declared(source: Source, tmp_path: Path) -> None:
    """A service gets only the declared variables: without one, it would watch other directories than the shell."""
    common = {"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "APPDATA", "LOCALAPPDATA"}
    for platform in ("linux", "darwin", "win32"):
        environ = AskedEnvironment()
        dirs = UserDirs(home=str(tmp_path), environ=environ, platform=platform)
        list(source.roots(dirs))
        list(source.live(dirs))
        source.retention(dirs)
        assert environ.asked - common == set(source.variables), platform


@each_source
def test_an_empty_home_has_no_live_session(source: Source, tmp_path: Path) -> None:
    """If the tool's files are missing there is no live session and no error."""
    assert list(source.live(UserDirs(home=str(tmp_path), environ={}, platform="linux"))) == []


SETTINGS = (
    ".claude/sessions/4242.json",
    ".claude/settings.json",
    ".gemini/settings.json",
    ".qwen/settings.json",
    ".local/share/crush/projects.json",
    ".copilot/session-state/s/inuse.4242.lock",
)
DEEP = '{"x":' + "[" * 100_000 + "]" * 100_000 + "}"
HOSTILE = (
    b"",
    b"{",
    b"null",
    b"[1]",
    b"\xff\xfe\0",
    DEEP.encode(),
    b'{"general":' + DEEP.encode() + b"}",
    b'{"pid":-1e999,"sessionId":"s"}',
    b'{"pid":99999999999999999999,"sessionId":"s","cleanupPeriodDays":99999999999999999999}',
    b'{"cleanupPeriodDays":-1,"general":{"sessionRetention":{"maxAge":[]}}}',
    b'{"general":{"sessionRetention":{"maxAge":"99999999999999999999d"}}}',
    b'{"runtimeOutputDir":"/a\\u0000b","projects":[{"path":"/a\\u0000b","data_dir":"c"},{"path":"","data_dir":""}]}',
    b'{"projects":[{"path":"/a","data_dir":"/b/../../c"},{"path":"/ok","data_dir":".crush"}]}',
)


@pytest.fixture(scope="module")
def damaged_homes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return a home for each hostile content, with all settings of tools. Tests only read them."""
    homes = []
    for number, content in enumerate(HOSTILE):
        homes.append(tmp_path_factory.mktemp(f"damaged-{number}-"))
        for name in SETTINGS:
            path = homes[-1] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return homes


@each_source
def test_damaged_settings_of_a_tool_raise_no_error(source: Source, damaged_homes: list[Path]) -> None:
    """Settings are read at the start and when they change: an error there would end the process."""
    for number, home in enumerate(damaged_homes):
        dirs = UserDirs(home=str(home), environ={}, platform="linux")
        paths = [root.path for root in source.roots(dirs)]
        assert all(os.path.isabs(path) and "\0" not in path for path in paths), HOSTILE[number][:100]
        list(source.live(dirs))
        retention = source.retention(dirs)
        assert retention is None or 1 <= retention.days < 100_000_000, HOSTILE[number][:100]
