"""The corpora of the benchmark are as described, so that its figures can be compared over time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from support.harness import daemon_harness

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import corpus
import measure
import writer


def test_a_corpus_is_the_same_each_time(tmp_path: Path) -> None:
    """Two corpora of one seed are equal to the byte, and another seed makes another."""
    one, same, other = (
        corpus.make(str(tmp_path / name), 6, 200_000, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == same
    assert [made.sha256 for made in one] != [made.sha256 for made in other]
    assert corpus.read(str(tmp_path / "a")) == one


def test_the_daemon_counts_what_a_corpus_says(tmp_path: Path) -> None:
    """The records have the prompts and answers of the manifest, so the measured work is complete."""
    with daemon_harness(tmp_path) as harness:
        harness.now_ms = int(corpus.NOW.timestamp() * 1000) + 86_400_000
        made = corpus.make(harness.home, 8, 400_000)
        os.unlink(os.path.join(harness.home, corpus.MANIFEST))
        harness.scan()
        counts = {str(state.uuid): state.record.message_count for state in harness.spool.catalog.sessions()}
        expected: dict[str, int] = {}
        for one in made:
            expected[one.session] = expected.get(one.session, 0) + one.prompts + one.answers
        assert counts == expected


def test_the_transactions_of_a_capture_are_timed(tmp_path: Path) -> None:
    """The bench sees each transaction of the product's engine."""
    home = str(tmp_path / "home")
    corpus.make(home, 3, 100_000)
    holds = writer._capture(home, str(tmp_path / "state")).holds
    assert len(holds) >= 3
    assert all(0 < cpu <= 10 for _, cpu in holds)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cost_counts_what_this_process_reads(tmp_path: Path) -> None:
    """Bytes that are read show up in the cost of the process."""
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    before = measure.cost(os.getpid())
    (tmp_path / "file").read_bytes()
    spent = measure.cost(os.getpid()) - before
    assert spent.read >= 1 << 20
    assert spent.cpu >= 0
