"""How the lines of a push are answered."""

from __future__ import annotations

import base64
import hashlib
import random
import threading
from pathlib import Path

import pytest
from endpoint_lines import DEVICE, OTHER_DEVICE, SESSION, Pusher, append, generation, record

from sessiond import zstd
from sessiond.endpoint.server import Running, machines, running, tokens
from sessiond.endpoint.server.reading import Comparer
from sessiond.endpoint.wire import Limits
from sessiond.errors import NotFound


def test_lines_are_answered_in_order_and_a_bad_one_harms_no_other(pusher: Pusher) -> None:
    """Each line has its own answer, which names a bad line and its fault."""
    results = pusher.lines(record(), b"{", append(0, b"one\n"), {"op": "append", "stream": "main"}, append(4, b"two\n"))
    assert [each["status"] for each in results] == ["stored", "problem", "stored", "problem", "stored"]
    assert results[1]["problem"]["type"] == results[3]["problem"]["type"] == "invalid"
    assert "line 2" in results[1]["problem"]["detail"]
    assert "line 4 (append stream main)" in results[3]["problem"]["detail"]
    assert "machine_id" in results[3]["problem"]["detail"]
    assert pusher.bytes_of() == b"one\ntwo\n"


def test_a_push_sent_again_is_all_duplicates(pusher: Pusher) -> None:
    """An answer that was lost costs a second push, never a second copy."""
    lines = [record(), append(0, b"one\n"), generation(1, 0, 2), append(2, b"ce\n", generation=1), append(4, b"two\n")]
    assert pusher.said(*lines) == ["stored"] * 5
    assert pusher.said(*lines) == ["duplicate"] * 5
    assert pusher.bytes_of(generation=1) == b"once\n"
    assert pusher.bytes_of(generation=0) == b"one\ntwo\n"


def test_an_empty_push_has_no_results(pusher: Pusher) -> None:
    assert pusher.post("/v1/push", headers={"Sessiond-Batch": "b"}).json() == {"batch": "b", "results": []}


def test_a_higher_revision_wins_and_a_lower_one_learns_which(pusher: Pusher) -> None:
    """Late deliveries never undo newer ones."""
    assert pusher.said(record(5, message_count=5)) == ["stored"]
    assert pusher.said(record(5, message_count=6)) == ["duplicate"]
    (late,) = pusher.lines(record(4, message_count=4))
    assert (late["problem"]["type"], late["problem"]["revision"]) == ("stale", 5)
    assert pusher.said(record(7, message_count=7)) == ["stored"]
    stored = pusher.get(f"/v1/sessions/ada/{SESSION}").json()
    assert (stored["revision"], stored["record"]["message_count"]) == (7, 7)


def test_an_append_at_another_offset_learns_where_the_stream_stands(pusher: Pusher) -> None:
    """The answer has generation, offset and digest: the client rewinds or skips without another call."""
    held = b"0123456789"
    for at in (3, 5):  # the first one when nothing is held at all
        (answer,) = pusher.lines(append(at, b"x"))
        assert (answer["problem"]["type"], answer["problem"]["offset"]) == ("offset-mismatch", 0)
        assert answer["problem"]["sha256"] == hashlib.sha256(b"").hexdigest()
    pusher.said(append(0, held))
    for wrong in (append(11, b"x"), append(2, b"x"), append(8, b"89a"), append(0, b"0123456789a")):
        (answer,) = pusher.lines(wrong)
        problem = answer["problem"]
        assert (problem["type"], problem["generation"], problem["offset"]) == ("offset-mismatch", 0, 10)
        assert problem["sha256"] == hashlib.sha256(held).hexdigest()
    assert pusher.said(append(3, b"345"), append(8, b"89")) == ["duplicate"] * 2
    assert pusher.bytes_of() == held


def test_a_duplicate_may_be_cut_otherwise_than_what_was_stored(endpoint: Running, pusher: Pusher) -> None:
    """Its bytes are compared with those of several chunks, whether before the transaction or in it."""
    for at, data in ((0, b"one\n"), (4, b"two\n"), (8, b"three\n")):
        assert pusher.said(append(at, data)) == ["stored"]
    assert pusher.said(append(2, b"e\ntwo\nth")) == ["duplicate"]
    assert pusher.said(append(2, b"e\ntwo\ntH")) == ["offset-mismatch"]
    with endpoint.store.read() as db:
        (stream,) = db.execute("SELECT stream FROM streams").fetchone()
    comparer = Comparer(endpoint.store, lambda _: None)
    assert comparer.same(stream, 0, 2, b"e\ntwo\nth")
    assert not comparer.same(stream, 0, 2, b"e\ntwo\ntH")


def test_data_with_a_wrong_length_or_digest_is_refused(pusher: Pusher) -> None:
    """Length and digest are checked before a byte is stored. The digest is that of the decoded bytes."""
    good = append(0, b"good\n")
    frame = base64.b64encode(zstd.compress(b"good\n")).decode()
    packed = good | {
        "encoding": "zstd",
        "data": frame,
        "sha256": hashlib.sha256(zstd.compress(b"good\n")).hexdigest(),
    }
    bad = [
        good | {"length": 4},
        good | {"sha256": "0" * 64},
        good | {"sha256": good["sha256"].upper()},
        good | {"encoding": "zstd"},
        good | {"encoding": "zstd", "data": frame},
        packed | {"data": frame[:-4]},
        packed | {"data": base64.b64encode(b"nothing").decode()},
        packed | {"length": 4},
        good | {"encoding": "gzip"},
        good | {"offset": -1},
        good | {"generation": 2**40},
        append(0, b""),
    ]
    assert pusher.said(*bad) == ["invalid"] * len(bad)
    assert pusher.said(packed) == ["stored"]
    assert pusher.said(good) == ["duplicate"]


@pytest.mark.parametrize("size", [10, 100_000])
def test_binary_data_is_returned_unchanged(pusher: Pusher, size: int) -> None:
    """A zstd segment carries any bytes."""
    raw = random.Random(1).randbytes(size)
    line = append(0, b"") | {
        "length": size,
        "sha256": hashlib.sha256(zstd.compress(raw)).hexdigest(),
        "encoding": "zstd",
        "data": base64.b64encode(zstd.compress(raw)).decode(),
    }
    assert pusher.said(line) == ["stored"]
    assert pusher.bytes_of() == raw


def test_a_small_segment_that_decodes_to_much_is_refused(pusher: Pusher) -> None:
    """A bomb inside a line costs no more than the length that the line declares."""
    bomb = base64.b64encode(zstd.compress(bytes(64 << 20))).decode()
    line = append(0, b"x") | {"encoding": "zstd", "data": bomb}
    assert pusher.said(line, line | {"length": 5 << 20}) == ["invalid", "too-large"]


@pytest.mark.parametrize("name", ["", "/a", "a//b", "a/../b", "..", "a/.", "a\nb", "a\x7f", "x" * 201])
def test_names_that_are_unfit_for_a_url_are_refused(pusher: Pusher, name: str) -> None:
    """A name must not leave its path, be hidden or contain a line break."""
    lines = [append(0, b"x", stream=name), append(0, b"x", machine_id=name), generation(1, None, 0, stream=name)]
    lines += [record(machine_id=name), record() | {"streams": [{"name": name, "generation": 0, "length": 1}]}]
    assert pusher.said(*lines) == ["invalid"] * 5


def test_records_that_a_strict_parser_refuses_are_refused(pusher: Pusher) -> None:
    """A strict parser can read every stored record."""
    bad = [
        record(machine_id=None),
        record(tool=""),
        record(message_count=2**31),
        record(message_count=-1),
        record(started_at="2026-11-01T10:00:00"),
        record(id="main"),
        record(-1),
        record(2**63),
    ]
    assert pusher.said(*bad) == ["invalid"] * len(bad)
    assert pusher.said(record() | {"title": "x" * (1 << 20)}) == ["too-large"]


def test_a_machine_id_belongs_to_its_first_device(endpoint: Running, pusher: Pusher) -> None:
    """Two machines of one hostname never merge silently. The problem says what to do, and adopting does it."""
    assert pusher.said(record(1)) == ["stored"]
    other = {"Sessiond-Device": OTHER_DEVICE}
    (taken,) = pusher.lines(record(2, device=OTHER_DEVICE), headers=other)
    assert taken["problem"]["type"] == "machine-taken"
    assert "machine_id" in taken["problem"]["detail"]
    assert "sessiond serve adopt ada" in taken["problem"]["detail"]
    assert pusher.said(append(0, b"x"), generation(1, 0, 0), headers=other) == ["machine-taken"] * 2
    assert pusher.said(append(0, b"x")) == ["stored"]

    machines.adopt(endpoint.store, "ada")
    assert pusher.said(record(3)) == ["stored"], "the old device goes on until the new one comes"
    assert pusher.said(record(4, device=OTHER_DEVICE), headers=other) == ["stored"]
    assert pusher.said(record(5)) == ["machine-taken"]
    with pytest.raises(NotFound):
        machines.adopt(endpoint.store, "grace")


def test_a_device_learns_that_its_machine_id_is_taken_before_it_pushes(endpoint: Running, pusher: Pusher) -> None:
    """The answer about offsets says so, to a token that may push, until the owner is told to give the id up."""
    assert pusher.said(record(1)) == ["stored"]

    def taken(client: Pusher, machine: str, device: str) -> bool:
        asked = {"machine_id": machine, "streams": []}
        answer = client.post("/v1/offsets", json=asked, headers={"Sessiond-Device": device}).json()
        assert answer in ({"streams": []}, {"streams": [], "taken": True})
        return "taken" in answer

    with Pusher(endpoint.url, tokens.add(endpoint.store, "new", scopes=["push"]), OTHER_DEVICE) as new:
        assert taken(new, "ada", OTHER_DEVICE)
        assert not taken(new, "grace", OTHER_DEVICE)
    with Pusher(endpoint.url, tokens.add(endpoint.store, "reader", scopes=["read"]), OTHER_DEVICE) as reader:
        assert not taken(reader, "ada", OTHER_DEVICE)
    with Pusher(endpoint.url, tokens.add(endpoint.store, "eve", user="eve"), OTHER_DEVICE) as eve:
        assert not taken(eve, "ada", OTHER_DEVICE)
    assert not taken(pusher, "ada", DEVICE)
    machines.adopt(endpoint.store, "ada")
    assert not taken(pusher, "ada", OTHER_DEVICE)


def test_a_full_quota_is_a_problem_of_the_segment_only(tmp_path: Path) -> None:
    """Records are still stored if transcripts have no room. Other clients are not refused."""
    raw = random.Random(2).randbytes(400_000).hex().encode()
    with running(str(tmp_path), quota=700_000) as it, Pusher(it.url, it.token) as pusher:
        half = len(raw) // 2
        assert pusher.said(append(0, raw[:half])) == ["stored"]
        assert pusher.said(append(half, raw[half:]), append(0, raw, stream="b")) == ["stored", "quota"]
        assert pusher.said(append(0, raw, stream="b"), record()) == ["quota", "stored"]


def test_two_clients_on_one_stream_make_one_sequence(endpoint: Running) -> None:
    """Appends compare and set: for any interleaving, every acknowledged byte is stored once, and nothing else."""
    stored: list[list[bytes]] = [[], []]

    def push(who: int) -> None:
        with Pusher(endpoint.url, endpoint.token) as pusher:
            offset = 0
            while len(stored[who]) < 25:
                mine = f"{who}:{len(stored[who])}\n".encode()
                (result,) = pusher.lines(append(offset, mine))
                if result["status"] == "stored":
                    stored[who].append(mine)
                    offset += len(mine)
                else:
                    offset = result["problem"].get("offset", offset)  # push-full has none

    threads = [threading.Thread(target=push, args=(who,)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Pusher(endpoint.url, endpoint.token) as pusher:
        lines = pusher.bytes_of().splitlines(keepends=True)
    assert sorted(lines) == sorted(stored[0] + stored[1])
    assert [line for line in lines if line.startswith(b"0")] == stored[0]


def test_limits_can_be_made_smaller(tmp_path: Path) -> None:
    """The limits that `GET /v1` announces are enforced."""
    limits = Limits(body=2000, decoded=3000, items=3, segment=10, appended=20)
    with running(str(tmp_path), limits=limits) as it, Pusher(it.url, it.token) as pusher:
        said = {"body": 2000, "decoded": 3000, "items": 3, "segment": 10, "appended": 20}
        assert pusher.get("/v1").json()["limits"] == said
        assert pusher.said(append(0, b"x" * 10), append(10, b"x" * 11)) == ["stored", "too-large"]
        line = b"{}\n"
        assert pusher.post("/v1/push", content=line * 3).status_code == 200
        assert pusher.post("/v1/push", content=line * 4).status_code == 413
        assert pusher.post("/v1/push", content=line[:-1] + b"\n{}" * 3).status_code == 413


def test_names_are_counted_in_characters(pusher: Pusher) -> None:
    """A name in any script may be as long as one in English, and is found under its own name."""
    name = "агент/" + "ж" * 194
    assert pusher.said(append(0, b"x", stream=name), append(0, b"x", stream=name + "ж")) == ["stored", "invalid"]
    assert pusher.bytes_of(name) == b"x"
