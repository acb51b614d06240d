"""The functions that sources share."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest

from sessiond.database import open_database
from sessiond.session import Entry, Role
from sessiond.sources.base import BaseSource, Kind, Memory, Unit, UserDirs
from sessiond.sources.objects import get_in
from sessiond.sources.processes import is_running
from sessiond.sources.records import UUID, compact, digest, message_role, unknown_type
from sessiond.sources.rows import as_json, column_or, select
from sessiond.sources.user_dirs import path_from_uri, read_settings, read_small_file
from support.sample_tree import open_store


def test_a_variable_names_a_directory_or_none() -> None:
    """A relative path depends on where the tool was started, which is unknown, so it is no root."""
    places = UserDirs(home="/home/ada", environ={"A": "/a/", "B": "b/c", "C": "~/c", "D": ""}, platform="linux")
    assert [places.from_variable(name) for name in "ABCDE"] == ["/a", "", "/home/ada/c", "", ""]
    assert [places.from_variable(name, "/sessions") for name in "AB"] == ["/a/sessions", ""]
    assert places.with_override("A", "/b", "/a") == ["/a", "/b"]
    assert places.with_override("B", "/b") == ["/b"]


def test_a_relative_xdg_directory_is_none() -> None:
    """The XDG specification says to ignore it."""
    places = UserDirs(home="/home/ada", environ={"XDG_CONFIG_HOME": "c", "XDG_DATA_HOME": "d"}, platform="linux")
    assert (places.config, places.share, places.data) == (
        "/home/ada/.config",
        "/home/ada/.local/share",
        "/home/ada/.local/share",
    )


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (None, None),
        ("", None),
        ("/home/ada", "/home/ada"),
        ("file:///home/ada/my%20loom", "/home/ada/my loom"),
        ("file:///home/ada/c#", "/home/ada/c#"),
    ],
)
def test_a_place_may_be_a_uri(place: str | None, path: str | None) -> None:
    """The path of a URI may be percent-encoded or not."""
    assert path_from_uri(place) == path


class Declared(BaseSource):
    """A source whose files match one pattern."""

    tool = "declared"
    files = re.compile(rf"(?P<store>\w+\.db)(?:-wal)?|(?P<id>{UUID})\.jsonl")

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        return None


def test_a_pattern_yields_the_unit_of_a_file() -> None:
    """The pattern yields the native id in the path, and a -wal belongs to its database."""
    identity = "00000001-0000-4000-8000-000000000001"
    source = Declared()
    assert source.unit(f"{identity}.jsonl") == Unit(kind=Kind.LINES, native_id=identity)
    assert source.unit("state.db-wal") == source.unit("state.db") == Unit(kind=Kind.DATABASE, path="state.db")
    assert source.unit("state.db-shm") is None


def test_a_missing_column_is_selected_as_null(tmp_path: Path) -> None:
    """A layout that lacks the column can still be read."""
    tool = open_store(tmp_path / "store.db")
    tool.execute("CREATE TABLE t (a, b)")
    tool.close()
    database = open_database(str(tmp_path / "store.db"))
    assert column_or(database, "t", "a") == "a"
    assert column_or(database, "t", "b", "max(b)") == "max(b)"
    assert column_or(database, "t", "c", "max(c)") == "NULL"
    assert column_or(database, "t", "c", missing="''") == "''"
    database.close()


def test_rows_have_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    """Columns come in the requested order. A missing column is None, and a missing table has no rows."""
    tool = open_store(tmp_path / "store.db")
    tool.execute("CREATE TABLE t (b, a)")
    tool.execute("INSERT INTO t VALUES (2, 1), (4, 3)")
    tool.close()
    database = open_database(str(tmp_path / "store.db"))
    assert list(select(database, "t", ("a", "c", "b"), "WHERE a > ?", 2)) == [{"a": 3, "c": None, "b": 4}]
    assert list(next(select(database, "t", ("a", "c", "b"), "ORDER BY a"))) == ["a", "c", "b"]
    assert list(select(database, "u", ("a",), "")) == list(select(database, "t", ("d",), "")) == []
    database.close()


@pytest.mark.parametrize(("cell", "line"), [(None, b"null"), ("", b"null"), ('{"a":\n1}', b'{"a": 1}'), (b"{", b"{")])
def test_json_in_a_column_stays_on_a_line(cell: str | bytes | None, line: bytes) -> None:
    """JSON is put on one line and otherwise left as it is, even if it is damaged."""
    assert msgspec.json.encode({"data": as_json(cell)}) == b'{"data":' + line + b"}"


def test_role_and_content_decide_who_wrote_a_message() -> None:
    """The role and the content decide: a user message that only carries a tool's result has no author."""
    result = msgspec.Raw(b'[{"type":"tool_result","content":"x"}]')
    assert message_role("user", msgspec.Raw(b'"Weave"')) is Role.USER
    assert message_role("user", result) is Role.USER
    assert message_role("user", result, silent=["tool_result"]) is None
    assert message_role("ai", msgspec.Raw(b'"Woven"'), roles={"ai": Role.ASSISTANT}) is Role.ASSISTANT
    assert message_role("system", msgspec.Raw(b'"Be kind"')) is message_role(None, msgspec.Raw(b'"x"')) is None


def test_small_functions_of_sources() -> None:
    """Unknown types are named, JSON is put on one line, equal texts have equal digests, and nested keys are found."""
    assert [unknown_type(kind, {"a"}) for kind in ("a", "b", "", None)] == [None, "b", "?", "?"]
    assert compact(b'{\n  "a": [1]\n}') == b'{"a":[1]}'
    assert digest("a") == digest("a") != digest("\ud800")
    assert get_in({"a": {"b": 1}}, "a", "b") == 1
    assert get_in({"a": 1}, "a", "b") is get_in(None, "a") is None


def test_is_running_recognises_a_reused_pid() -> None:
    """A reused pid is not the same process, and a pid below 1 is no process."""
    assert is_running(os.getpid())
    assert not is_running(os.getpid(), "0") or not os.path.exists("/proc/self/stat")
    assert [is_running(pid) for pid in (0, -1, 1 << 40)] == [False] * 3


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts descriptors in /proc")
def test_a_path_that_is_not_a_file_leaks_no_descriptor(tmp_path: Path) -> None:
    """Settings are read repeatedly: a directory or a pipe in their place must not use up the daemon's descriptors."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").write_text('{"a": 1} // a comment')
    before = os.listdir("/proc/self/fd")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing"):
        assert read_settings(str(path)) == {}
        assert read_small_file(str(path)) == b""
    assert read_settings(str(tmp_path / "link")) == {"a": 1}
    assert read_small_file(str(tmp_path / "link")) == b""
    assert len(os.listdir("/proc/self/fd")) == len(before)
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    assert read_settings(str(tmp_path / "pipe")) == {}
    assert read_small_file(str(tmp_path / "pipe")) == b""
    os.close(writer)
