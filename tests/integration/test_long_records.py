"""Records that are longer than a transaction should be: captured in slices, exactly once, masked as in one go."""

from __future__ import annotations

import itertools
import os
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond import zstd
from sessiond.config import Config
from sessiond.ingest import Outcome, Turn, content, ingest, line_reader, masked, pipeline
from sessiond.ingest.content import Lines, Records
from sessiond.ingest.masked import mask_chunk, read_extents
from sessiond.ingest.pipeline import STEP
from sessiond.privacy import Masking
from sessiond.privacy.terms import read_terms
from sessiond.reader import Digest, Extent
from support.capture import lab, session, write
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness, encode
from support.power import CrashingSpool, Killed

MIB = 1 << 20
TOKEN = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bD2fG4hJ6"
KEY = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\\n"
    + "\\n".join(random.Random(7).randbytes(52).hex()[:70].replace("0", "Q") for _ in range(12))
    + "\\n-----END OPENSSH PRIVATE KEY-----"
)
SECRETS = [
    TOKEN,
    KEY,
    f"\\u001b[33m{TOKEN}\\u001b[0m",
    f'password=\\"{"Tr0ub4dor" * 3}\\"',
    "sk-ant-api03-" + "xY1_" * 24,
]


def masking() -> Masking:
    return Masking(read_terms(Config(), {}, b"k" * 64))


STARS = masking()


def read_bytes() -> int:
    """Return how many bytes this process has read by system calls so far, where the system counts them."""
    if not os.path.exists("/proc/self/io"):
        return 0
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


@contextmanager
def small_pieces(piece: int, context: int, longest: int = 1 << 30) -> Iterator[None]:
    """Cut records into smaller pieces, so that a test needs no gigabytes."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (line_reader, content):
            patch.setattr(module, "CHUNK", piece)
            patch.setattr(module, "LONG_RECORD", piece)
            patch.setattr(module, "MAX_RECORD", longest)
        for module in (line_reader, content, masked):
            patch.setattr(module, "CONTEXT", context)
        yield


def long_record(size: int, seed: int = 1, secrets: int = 40) -> bytes:
    """Return a record of about `size` bytes with secrets in it, as one line of JSON."""
    chance = random.Random(seed)
    parts = []
    for _ in range(secrets):
        words = "lorem ipsum dolor \\n " * chance.randint(1, max(2, 2 * size // secrets // 21))
        parts += [words[: chance.randint(1, len(words))].rsplit(" ", 1)[0], " ", chance.choice(SECRETS), " "]
    text = "".join(parts).ljust(size, "x")
    return b'{"type":"user","cwd":"/home/dev/project","message":{"content":"' + text.encode() + b'"}}\n'


def extents_of(chunks: list, digest: Digest) -> list[Extent]:
    return [Extent(start=chunk.offset, length=len(chunk.data), digest=digest(chunk.data)) for chunk in chunks]


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 30), piece=st.integers(100_000, 400_000), stops=st.sets(st.integers(0, 12)))
def test_stopping_anywhere_gives_the_same_masked_bytes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, piece: int, stops: set[int]
) -> None:
    """A record is masked as in one go for any size of its pieces, wherever reading stops and starts again."""
    record = long_record(900_000, seed)
    head = encode(claude(SESSION, 1))
    path = tmp_path_factory.mktemp("long") / "file"
    path.write_bytes(head + record + head)
    expected = head + STARS.mask(record).data + head
    digest = Digest(1)
    with small_pieces(piece, line_reader.CONTEXT), path.open("rb") as file:
        out, chunks, offset = b"", [], 0
        while offset < len(expected):  # each time with a new reader, as after a restart
            for number, chunk in enumerate(Lines(file.fileno(), digest).chunks(offset)):
                out += mask_chunk(STARS, chunk, "").data
                chunks.append(chunk)
                offset = chunk.end
                if number in stops:
                    break
        assert out == expected
        extents = extents_of(chunks, digest)
        lines = Lines(file.fileno(), digest)
        again = [mask_chunk(STARS, chunk, "").data for chunk in read_extents(lines, extents)]
        assert b"".join(again) == expected, "what is read again is masked as it was"
        assert lines.unchanged_prefix(extents) == len(expected)
        for count in range(1, len(extents)):
            assert lines.unchanged_prefix(extents[:count]) == extents[count - 1].end


@pytest.mark.parametrize("size", [1, 2500, 1 << 30])
def test_a_file_that_is_read_in_slices_is_kept_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A slice ends with the step that fills it; each step is stored, and the next slice begins behind it."""
    monkeypatch.setattr(line_reader, "CHUNK", 1000)
    monkeypatch.setattr(pipeline, "STEP", 1000)
    with daemon_harness(tmp_path) as harness:
        path = harness.write(CLAUDE, *(claude(SESSION, number) for number in range(20)))
        whole = Path(path).read_bytes()
        (place,) = harness.places(path)
        outcome, read = Outcome(more=True), 0
        while outcome.more:
            outcome = ingest(harness.ingesting, place, Turn(slice=size))
            assert outcome.read < min(size, len(whole)) + 2000
            assert not outcome.more or outcome.read >= size
            read += outcome.read
        assert read == len(whole)
        harness.settle()
        assert harness.held(SESSION) == whole
        assert harness.held_sessions()[SESSION]["record"]["message_count"] == 20


def test_every_cut_of_a_secret_is_covered() -> None:
    """A piece that ends inside a key or a token shows no part of it."""
    around = b"lorem ipsum " * 6000
    for secret in SECRETS:
        record = b'{"v":"' + around + secret.encode() + b" " + around + b'"}\n'
        whole, at = STARS.mask(record).data, record.index(secret.encode())
        for cut in range(at - 1, at + len(secret) + 2, 7):
            low, high = max(0, cut - line_reader.CONTEXT), cut + line_reader.CONTEXT
            left = STARS.mask_piece(b"", record[:cut], record[cut:high]).data
            right = STARS.mask_piece(record[low:cut], record[cut:], b"").data
            assert left + right == whole


def test_a_piece_of_a_projection_is_masked_as_in_one_go() -> None:
    """The same holds if reading starts again between two pieces."""
    records, digest = [b'{"a":1}', long_record(900_000)[:-1], b'{"b":2}'], Digest(1)
    expected = b"".join(STARS.mask(record + b"\n").data for record in records)
    with small_pieces(200_000, line_reader.CONTEXT):
        whole = Records(records, digest)
        chunks = list(whole.chunks(0))
        assert len(chunks) > 5
        for index, first in enumerate(chunks):
            rest = list(whole.chunks(first.offset))
            assert rest == chunks[index:]
        assert b"".join(mask_chunk(STARS, chunk, "").data for chunk in chunks) == expected
        assert [chunk.record for chunk in chunks if chunk.record] == [records[1] + b"\n"]
        extents = extents_of(chunks, digest)
        assert b"".join(mask_chunk(STARS, chunk, "").data for chunk in read_extents(whole, extents)) == expected


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path, open_spool=CrashingSpool) as made:
        made.restart(redact="mask")
        yield made


def test_a_kill_at_any_step_loses_and_repeats_nothing(harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon dies before or after each commit in turn. The endpoint gets every byte once, masked as in one go."""
    monkeypatch.setattr("sessiond.ingest.pipeline.STEP", 300_000)
    with small_pieces(150_000, 1 << 16):
        record = long_record(3_000_000)
        lines = [encode(claude(SESSION, 1)), record, encode(claude(SESSION, 2))]
        path = harness.write(CLAUDE, *lines)
        deaths, offsets = 0, set()
        for steps in range(200):
            harness.spool.steps = 1 + steps % 3  # type: ignore[attr-defined]
            try:
                (outcome,) = harness.ingest(path)
                alive = not outcome.more
            except Killed:
                deaths, alive = deaths + 1, False
            harness.close()
            harness.open()
            stream = harness.spool.catalog.find_stream(uuid.UUID(SESSION), "main")
            if stream is not None:
                assert stream.queued == stream.folded, "nothing is captured that is not queued"
                offsets.add(stream.folded)
            if alive:
                break
        assert deaths >= 8
        assert len(offsets) > 8, "it went on inside the record"
        harness.settle()
        assert harness.held(SESSION) == b"".join(STARS.mask(line).data for line in lines)
        assert [item["generation"] for item in harness.held_sessions()[SESSION]["streams"]] == [0]
        assert harness.held_sessions()[SESSION]["record"]["message_count"] == 3


def test_a_long_record_is_stored_in_bounded_transactions(tmp_path: Path) -> None:
    """One of 100 MiB: no transaction stores more than a step, and each slice moves the position."""
    path = write(tmp_path, 1, age=0)
    with open(path, "ab") as file:
        file.write(b'{"type":"user","text":"')
        for _ in range(100):
            file.write(os.urandom(MIB // 2).hex().encode())
        file.write(b'"}\n' + encode(claude(session(1), 7)))
    with lab(tmp_path, {"redact": "off"}) as harness:
        harness.capture_loop.turn = Turn(slice=STEP)
        spool = harness.resources.spool
        before = read_bytes()
        harness.scan()
        positions = [0]
        while harness.queue.has_live or harness.queue.backlog:
            harness.turn()
            stream = spool.catalog.find_stream(uuid.UUID(session(1)), "main")
            positions.append(0 if stream is None else stream.folded)
        assert positions[-1] == os.path.getsize(path)
        assert max(after - before for before, after in itertools.pairwise(positions)) <= 2 * STEP
        assert read_bytes() - before < 4 * os.path.getsize(path), "no slice reads the rest of the record"
        (count,) = spool.connection.execute("SELECT count(*) FROM segment WHERE length > ?", (MIB,)).fetchone()
        assert count == 0
        assert stream is not None and stream.fold.oversized == 1


def read_half(harness: DaemonHarness, path: str) -> None:
    """Read slices of a file until a part of its long record is captured."""
    for _ in range(20):
        for place in harness.places(path):
            ingest(harness.ingesting, place, Turn(slice=300_000))
        stream = harness.spool.catalog.find_stream(uuid.UUID(SESSION), "main")
        if stream is not None and stream.folded > 600_000:
            assert stream.folded < 1_500_000
            return
    raise AssertionError("it stays at the beginning")


def test_an_edit_inside_a_record_that_is_half_read_begins_a_generation_at_its_start(
    harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generation never begins between two of its pieces, and queued bytes stay readable."""
    monkeypatch.setattr("sessiond.ingest.pipeline.STEP", 300_000)
    with small_pieces(150_000, 1 << 16):
        first = encode(claude(SESSION, 1))
        path = harness.write(CLAUDE, first, long_record(2_000_000))
        read_half(harness, path)
        content_now = bytearray(Path(path).read_bytes())
        content_now[400_000:400_010] = b"y" * 10
        Path(path).write_bytes(content_now)
        harness.settle()
        assert harness.held(SESSION) == first + STARS.mask(bytes(content_now[len(first) :])).data
        streams = harness.get(f"/v1/sessions/testbox/{SESSION}/streams").json()["streams"]
        assert streams[0]["generations"][1]["keep"] == len(first)


def test_a_record_that_loses_its_end_while_it_is_read_waits_for_a_new_one(
    harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last piece stays in the file, as for every record without an end. Later the stream continues where it was."""
    monkeypatch.setattr("sessiond.ingest.pipeline.STEP", 300_000)
    with small_pieces(150_000, 1 << 16):
        first, record = encode(claude(SESSION, 1)), long_record(2_000_000)
        path = harness.write(CLAUDE, first, record)
        read_half(harness, path)
        os.truncate(path, os.path.getsize(path) - 1)
        harness.settle()
        assert len(first) + 1_500_000 < len(harness.held(SESSION)) < os.path.getsize(path)
        harness.write(path, b"\n", encode(claude(SESSION, 2)))
        harness.settle()
        assert harness.held(SESSION) == first + STARS.mask(record).data + encode(claude(SESSION, 2))
        assert [item["generation"] for item in harness.held_sessions()[SESSION]["streams"]] == [0]


def test_a_gap_inside_a_long_record_is_filled_as_it_was(harness: DaemonHarness) -> None:
    """The endpoint lost the second half of a record: the same masked bytes come again, and no secret counts twice."""
    with small_pieces(150_000, 1 << 16):
        harness.write(CLAUDE, encode(claude(SESSION, 1)), long_record(2_000_000))
        harness.settle()
        whole, counted = harness.held(SESSION), harness.spool.stats.redactions()
        assert counted
        stream = harness.spool.catalog.find_stream(uuid.UUID(SESSION), "main")
        assert stream is not None
        for start in (1, 149_000, 777_777, 1_900_000):
            gap = (start, stream.folded)
            with harness.spool.transaction():
                harness.spool.catalog.set_position(stream.id, 0, stream.queued, start, gap)
            harness.scan()
            rows = harness.spool.connection.execute(
                "SELECT offset, length, data FROM segment ORDER BY offset"
            ).fetchall()
            again = b"".join(zstd.decompress(data, 2 * MIB) for _, _, data in rows)
            assert (rows[0][0], again) == (start, whole[start:])
            harness.settle()
        assert harness.spool.stats.redactions() == counted
