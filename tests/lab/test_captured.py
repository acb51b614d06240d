"""The lab's check of bytes finds a file that no stream has."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from lab.answers import answers, lost_answers
from lab.captured import check_files, is_named, is_same
from sessiond.session import Entry
from sessiond.sources.base import BaseSource, Kind, Memory, Projection, Root, Source, Unit

ANSWER = "Stub answer"
LINES = b'{"a":1}\n{"b":2}\n'


class Invented(BaseSource):
    """Lines, documents, packed lines and a history, by extension."""

    tool = "invented"
    gaps = ("the cache is left out: kept/, *.cache, named.history, named.list and 2.0.49",)

    def unit(self, relative: str) -> Unit | None:
        kinds = {"jsonl": Kind.LINES, "json": Kind.DOCUMENT, "history": Kind.HISTORY, "list": Kind.HISTORY}
        kind = kinds.get(relative.rpartition(".")[2])
        return Unit(kind=kind, projected=relative.endswith(".list")) if kind else None

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Projection]:
        for content in files.values():
            yield Projection(native_id="", records=[json.dumps(each).encode() for each in json.loads(content)])

    def decode(self, record: bytes, memory: Memory) -> Entry:
        return Entry(native_id=json.loads(record)["session"])


def check(
    home: Path, *streams: bytes, read: tuple[str, ...] = (), sessions: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], ...]:
    source: Source = Invented()
    found = check_files(str(home), [(source, Root(path=str(home)))], streams, [str(home / it) for it in read], sessions)
    return found.captured, found.named, found.missing


def test_lines_in_a_stream_are_captured_and_others_missing(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_bytes(LINES)
    (tmp_path / "two.jsonl").write_bytes(b'{"c":3}\n')
    assert check(tmp_path, LINES) == (("one.jsonl",), (), ("two.jsonl",))


def test_an_unfinished_line_is_not_expected(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_bytes(LINES + b'{"c"')
    assert check(tmp_path, LINES) == (("one.jsonl",), (), ())
    assert check(tmp_path, LINES[:8]) == ((), (), ("one.jsonl",))


def test_a_last_record_without_its_end_is_missing(tmp_path: Path) -> None:
    """A tool that ends no line would lose its last record: that is not what a killed tool leaves."""
    (tmp_path / "one.jsonl").write_bytes(LINES + b'{"c":3}')
    assert check(tmp_path, LINES) == ((), (), ("one.jsonl",))
    (tmp_path / "one.jsonl").write_bytes(b'{"c":3}')
    assert check(tmp_path) == ((), (), ("one.jsonl",))


def test_a_side_file_is_compared_whole(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "output.txt").write_bytes(b"all of it")
    assert check(tmp_path, b"all of it") == (("deep/output.txt",), (), ())
    assert check(tmp_path, b"all of i") == ((), (), ("deep/output.txt",))


def test_each_line_of_a_history_is_in_some_stream(tmp_path: Path) -> None:
    one, two = b'{"session":"1"}\n', b'{"session":"2"}\n'
    (tmp_path / "all.history").write_bytes(one + two)
    assert check(tmp_path, one, two) == (("all.history",), (), ())
    assert check(tmp_path, one) == ((), (), ("all.history",))


def test_a_history_may_leave_out_the_lines_of_captured_sessions(tmp_path: Path) -> None:
    (tmp_path / "named.history").write_bytes(b'{"session":"known"}\n{"session":"other"}\n')
    assert check(tmp_path, sessions=("known", "other")) == ((), ("named.history",), ())
    assert check(tmp_path, b'{"session":"other"}\n', sessions=("known",)) == ((), ("named.history",), ())
    assert check(tmp_path, sessions=("known",)) == ((), (), ("named.history",))


def test_a_history_may_be_a_document(tmp_path: Path) -> None:
    """Its prompts are compared as the lines that are made of them, however the document is laid out."""
    (tmp_path / "named.list").write_bytes(b'[\n {"session": "known"}\n]\n')
    assert check(tmp_path, sessions=("known",)) == ((), ("named.list",), ())
    assert check(tmp_path, b'{"session": "known"}\n') == ((), ("named.list",), ())
    assert check(tmp_path) == ((), (), ("named.list",))


def test_the_index_of_a_log_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "state.db-shm").write_bytes(b"index")
    assert check(tmp_path) == ((), (), ())


def test_a_document_has_to_be_read(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_bytes(b"{}")
    assert check(tmp_path, b"{}") == ((), (), ("one.json",))
    assert check(tmp_path, read=("one.json",)) == (("one.json",), (), ())


def test_files_that_a_gap_names_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x").write_bytes(b"1")
    (tmp_path / "a.cache").write_bytes(b"2")
    (tmp_path / "2.0.49").write_bytes(b"3")
    (tmp_path / "empty").touch()
    assert check(tmp_path) == ((), ("a.cache", "kept/x"), ("2.0.49",))


@pytest.mark.parametrize(
    ("path", "gap", "named"),
    [
        ("p/memory/notes.yaml", "memory/ belongs to a project", True),
        ("p/my-memory/notes.yaml", "memory/ belongs to a project", False),
        ("p/logs.json", "logs.json, which has prompts, is not read", True),
        ("p/other-logs.json", "logs.json, which has prompts, is not read", False),
        ("s/session.db-wal", "left out: session.db*", True),
        ("s/session.db", "the last is session.db.", True),
        ("s/anything", "no version is stored, e.g. * or 1.x", False),
    ],
)
def test_names_in_gaps(path: str, gap: str, named: bool) -> None:
    assert is_named(path, [gap]) is named


def test_no_gap_excuses_a_file_that_the_source_reads(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "one.jsonl").write_bytes(LINES)
    assert check(tmp_path) == ((), (), ("kept/one.jsonl",))


def test_each_answer_in_a_document_is_in_a_stream(tmp_path: Path) -> None:
    """A projection that leaves out messages is found, also if they are JSON in a string."""
    inner = json.dumps({"text": f"{ANSWER} 2"})
    (tmp_path / "one.json").write_text(json.dumps({"messages": [{"text": f"{ANSWER} 1"}, {"data": inner}]}))
    first, second = (json.dumps({"said": f"{ANSWER} {number}", "n": 1}).encode() + b"\n" for number in (1, 2))
    assert check(tmp_path, first + second, read=("one.json",)) == (("one.json",), (), ())
    assert check(tmp_path, first, read=("one.json",)) == ((), (), ("one.json",))


def test_each_answer_in_a_database_is_in_a_stream(tmp_path: Path) -> None:
    """Those in the index of a search are the same texts again."""
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE part (data TEXT)")
        database.execute("CREATE VIRTUAL TABLE search USING fts5(title, body)")
        database.execute("INSERT INTO part VALUES (?)", (json.dumps({"text": f"{ANSWER} 1"}),))
        database.execute("INSERT INTO part VALUES (?)", (f"{ANSWER} 2".encode(),))
        database.execute("INSERT INTO search VALUES ('title', ?)", (f"{ANSWER} 1",))
    assert answers(path.read_bytes(), str(path)) == {f"{ANSWER} 1", f"{ANSWER} 2"}
    assert lost_answers(str(path), [f"{ANSWER} 1 and more"]) == {f"{ANSWER} 2"}


def test_an_answer_in_a_file_elsewhere_has_to_be_named(tmp_path: Path) -> None:
    """A tool may keep a session twice, or in a place that nobody knows of."""
    root = tmp_path / "sessions"
    for name in ("sessions/one.jsonl", "other/chat.db", "other/a.cache", "other/settings.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("theme" if name.endswith(".toml") else f'{{"text": "{ANSWER}"}}\n')
    content = (root / "one.jsonl").read_bytes()
    found = check_files(str(tmp_path), [(Invented(), Root(path=str(root)))], [content], [])
    assert found.captured == ("sessions/one.jsonl",)
    assert (found.named, found.missing) == (("other/a.cache",), ("other/chat.db",))


def test_only_asterisks_may_take_the_place_of_other_bytes() -> None:
    assert is_same(b"key=abc", b"key=***")
    assert not is_same(b"key=abc", b"key=xyz")
    assert not is_same(b"key=abc", b"key=****")
    assert not is_same(b"key=abc", b"*******")
