"""Facts about OpenCode, its forks and Goose: their directories, paths and rows."""

from __future__ import annotations

import json

import pytest

from conformance import engine
from sessiond.session import Fold
from sessiond.sources.base import Kind, Unit, UserDirs, Watch
from sessiond.sources.goose import Goose
from sessiond.sources.kilo_code import KiloCode
from sessiond.sources.opencode import OpenCode

SOURCE = OpenCode()
SESSION = "ses_dfc4932aeffem1PXqG1UM4qp5B"


def test_no_watch_is_spent_on_a_tree() -> None:
    """The directory of the databases also has git stores and a directory for each message."""
    places = UserDirs(home="/h", environ={"OPENCODE_DB": "/o/my.db", "XDG_DATA_HOME": "/x"}, platform="linux")
    roots = {root.path: root.watch for root in SOURCE.roots(places)}
    assert roots == {
        "/o": Watch.FLAT,
        "/x/opencode": Watch.FLAT,
        "/x/opencode/tool-output": Watch.FLAT,
        "/x/opencode/storage": Watch.SCAN,
        "/x/opencode/project": Watch.SCAN,
    }
    named = UserDirs(home="/h", environ={"KILO_DB": "other.db"}, platform="darwin")
    assert next(root.path for root in KiloCode().roots(named)) == "/h/.local/share/kilo"


def test_goose_keeps_to_xdg_on_macos() -> None:
    """GOOSE_PATH_ROOT comes first, and the system's own directory is searched as well."""
    places = UserDirs(home="/h", environ={"GOOSE_PATH_ROOT": "/g"}, platform="darwin")
    assert [root.path for root in Goose().roots(places)] == [
        "/g/data/sessions",
        "/h/.local/share/goose/sessions",
        "/h/Library/Application Support/Block/goose/sessions",
    ]


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("opencode.db", Unit(kind=Kind.DATABASE, path="opencode.db")),
        ("opencode-dev.db-wal", Unit(kind=Kind.DATABASE, path="opencode-dev.db")),
        (f"session/global/{SESSION}.json", Unit(kind=Kind.DOCUMENT, native_id=SESSION, stream="json")),
        (f"home-ada/storage/session/info/{SESSION}.json", Unit(kind=Kind.DOCUMENT, native_id=SESSION, stream="json")),
        ("opencode.db-shm", None),
        ("auth.json", None),
        (f"session_diff/{SESSION}.json", None),
        (f"message/{SESSION}/msg_1.json", None),
        ("part/msg_1/prt_1.json", None),
        (f"storage/session/global/{SESSION}.json", None),
    ],
)
def test_a_path_says_what_it_is(path: str, unit: Unit | None) -> None:
    """Databases are recognised for every channel, sessions by their file; messages and parts belong to a session."""
    assert SOURCE.unit(path) == unit


def count(*records: dict[str, object]) -> int:
    """Count the messages in records."""
    fold = Fold()
    engine.fold_lines(SOURCE, fold, "".join(f"{json.dumps(record)}\n" for record in records).encode())
    assert not fold.damaged
    return len(fold.messages)


def message(identity: str, role: str, created: int, **more: object) -> dict[str, object]:
    """Make a message."""
    return {"id": identity, "sessionID": SESSION, "role": role, "time": {"created": created}, **more}


def part(of: str, text: str, **more: object) -> dict[str, object]:
    """Make a part."""
    return {"id": f"prt_{of}", "sessionID": SESSION, "messageID": of, "type": "text", "text": text, **more}


def test_a_message_counts_with_its_first_text() -> None:
    """Several texts are one message. A message without text, or with injected text only, does not count."""
    one, two = message("msg_1", "user", 1), message("msg_2", "assistant", 2)
    assert count(one, part("msg_1", "weave"), part("msg_1", "and spin"), two, part("msg_2", "")) == 1
    assert count(one, part("msg_1", "Called the Read tool", synthetic=True), part("msg_1", "x", ignored=True)) == 0
    assert count(two, part("msg_9", "another message's")) == 0


@pytest.mark.parametrize(("revert", "left"), [({"messageID": "msg_2"}, 1), ({"messageID": "msg_2", "partID": "p"}, 2)])
def test_a_revert_hides_what_follows(revert: dict[str, str], left: int) -> None:
    """A revert hides everything from a message on, or from a part of a message on; then the message itself stays."""
    talk = [record for n in (1, 2, 3) for record in (message(f"msg_{n}", "user", n), part(f"msg_{n}", "weave"))]
    assert count({"id": SESSION, "revert": revert}, *talk) == left
