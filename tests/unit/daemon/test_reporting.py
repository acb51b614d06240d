"""What `status` and the log show of the watched roots, and when a file is read again."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path

import pytest

from sessiond import logs
from sessiond.config import Config
from sessiond.config.load import Loaded
from sessiond.config.model import Endpoint as EndpointConfig
from sessiond.daemon.reporting import RootHealths, log_root_changes, record_config_health
from sessiond.daemon.retries import FREE, RATE, TORN_WAITS, Retries
from sessiond.frozen_record import to_json
from sessiond.ingest import Location, Outcome, locate
from sessiond.sources import find_sources
from sessiond.sources.base import Root
from sessiond.spool import Spool
from sessiond.spool.health import CONFIG, ROOTS, CaptureHealth, RootHealth, read_applied_config
from sessiond.watch import RootState, WatchedRoot, WatchMode
from support.capture import lab
from support.capture import write as write_session

HOWS = ("watched", "missing", "polled", "unreadable")


def health(how: str | None, path: str = "/r") -> CaptureHealth:
    """Return a state with one root that is watched in this way, or without it for None."""
    roots = [] if how is None else [RootHealth(tool="codex", path=path, how=how, detail="why", hint="what to do")]
    return CaptureHealth(roots=roots)


@pytest.mark.parametrize("before", [*HOWS, None])
@pytest.mark.parametrize("now", HOWS)
def test_each_change_of_a_root_is_logged_once(before: str | None, now: str) -> None:
    """A root appears, disappears, or is found by scans only. At the start only the last of these is logged."""
    expected = {
        ("missing", "watched"): "watch.found",
        ("watched", "missing"): "watch.lost",
        ("polled", "missing"): "watch.lost",
        ("unreadable", "missing"): "watch.lost",
        ("watched", "polled"): "watch.limited",
        ("missing", "polled"): "watch.limited",
        ("unreadable", "polled"): "watch.limited",
        (None, "polled"): "watch.limited",
    }.get((before, now))
    with logs.recorded() as events:
        log_root_changes(health(before), health(now))
    assert [event["event"] for event in events] == ([] if expected is None else [expected])
    if expected == "watch.limited":
        assert (events[0]["root"], events[0]["reason"], events[0]["hint"]) == ("/r", "why", "what to do")


def test_roots_are_compared_by_their_path() -> None:
    """Another root of the same tool says nothing about this one."""
    with logs.recorded() as events:
        log_root_changes(health("missing", "/other"), health("watched"))
    assert events == []


def test_the_roots_of_tools_are_shown() -> None:
    """Directories of the configuration are left out. A name that is not text is escaped, since JSON can't have it."""

    def state(owner: str, path: str, how: WatchMode) -> RootState:
        watched = WatchedRoot(owner=owner, root=Root(path=path))
        return RootState(watched=watched, mode=how, detail="d", hint="h", directories=3)

    made = RootHealths({"codex"})
    states = (state("codex", "/a\udcff", WatchMode.POLLED), state("config", "/b", WatchMode.WATCHED))
    shown = made.of(states)
    assert shown == [
        RootHealth(tool="codex", path="/a\\udcff", how="polled", detail="d", hint="h", directories=3),
    ]
    assert made.of(states) is shown, "converted once"
    equal = (state("codex", "/a\udcff", WatchMode.POLLED), state("config", "/b", WatchMode.MISSING))
    assert made.of(equal) is shown, "no root of a tool changed"
    assert made.of((*states, state("codex", "/d", WatchMode.WATCHED)))[0] is shown[0], "another root changed"
    assert made.of((state("codex", "/c", WatchMode.MISSING),))[0].how == "missing"


def test_the_roots_are_stored_once_and_not_with_each_progress(tmp_path: Path) -> None:
    """They are long: a backlog would write them each second."""
    write_session(tmp_path, 1, age=9)
    with lab(tmp_path) as capture:
        first = capture.look()
        assert {"codex", "claude-code"} <= {root.tool for root in first.roots}
        spool = capture.resources.spool
        spool.set_meta(ROOTS, to_json({"roots": first.roots[:1]}))
        write_session(tmp_path, 2, age=9)
        found = capture.look()
        assert (found.discovered or {})["claude-code"] == 2
        assert found.roots == first.roots[:1], "a new session changes no root"
    with lab(tmp_path) as later:
        later.capture_loop.report.begin()
        assert later.health().roots == [], "those of an earlier daemon are gone"


ROOT = Root(path="/c")
PATH = "/c/-home/5f1d7c1e-0000-4000-8000-000000000001.jsonl"
TORN = Outcome(retry=True, trouble="half of a rewrite")


def location(path: str = PATH) -> Location:
    """Return the location of a session's file."""
    source = next(source for source in find_sources() if source.tool == "claude-code")
    (found,) = locate([(source, ROOT)], path)
    return found


def test_a_torn_file_is_read_again_at_growing_intervals() -> None:
    """The last interval stays. Once the file is whole, the intervals begin with the shortest again."""
    made, now = Retries(), 100.0
    assert (made.next(), len(made)) == (math.inf, 0)
    for wait in (*TORN_WAITS, TORN_WAITS[-1], TORN_WAITS[-1]):
        made.note(PATH, location(), TORN, now)
        assert (made.next(), len(made)) == (now + wait, 1)
        assert made.due(now + wait - 0.01) == []
        now += wait
        assert made.due(now) == [PATH]
    made.note(PATH, location(), Outcome(read=1), now)
    assert (made.next(), made.due(now + 1000), len(made)) == (math.inf, [], 0)
    made.note(PATH, location(), TORN, now)
    assert made.next() == now + TORN_WAITS[0]
    made.forget(PATH)
    made.forget(PATH)
    assert len(made) == 0


def test_a_lasting_trouble_is_logged_once() -> None:
    """A file in a rewrite is logged only after all the intervals; any other at once, and again after it was well."""
    made = Retries()
    with logs.recorded() as events:
        for _ in TORN_WAITS:
            made.note(PATH, location(), TORN, 0.0)
        assert events == []
        for _ in range(3):
            made.note(PATH, location(), TORN, 0.0)
        assert [(event["event"], event["reason"]) for event in events] == [("ingest.skipped", "half of a rewrite")]
        made.note(PATH, location(), Outcome(), 0.0)
        for _ in range(2):
            made.note(PATH, location(), Outcome(trouble="no permission"), 0.0)
        assert [event["reason"] for event in events] == ["half of a rewrite", "no permission"]
        made.note(PATH, location(), Outcome(damaged=2), 0.0)
        assert (events[-1]["event"], events[-1]["records"]) == ("ingest.damaged", 2)


def test_a_large_unit_rests_after_it_was_read() -> None:
    """It rests in proportion to its cost. A change during the rest is read after it, a later one at once."""
    made, cost = Retries(), FREE + RATE
    made.note(PATH, location(), Outcome(read=1, cost=FREE), 100.0)
    assert not made.rests(PATH, PATH, 100.0), "a small one never rests"
    made.note(PATH, location(), Outcome(read=1, cost=cost), 100.0)
    end = 100.0 + cost / RATE
    assert made.next() == math.inf, "nothing changed yet"
    other = f"{PATH}-wal"
    assert made.rests(other, PATH, 100.5)
    assert made.rests(other, PATH, 100.6)
    assert made.next() == end
    assert made.due(end - 0.01) == []
    assert made.due(end) == [other]
    assert (made.due(end), made.next()) == ([], math.inf), "once"
    assert not made.rests(other, PATH, end)
    assert made.due(end) == []


def test_the_configuration_in_force_is_stored(tmp_path: Path) -> None:
    """`status` reads its own files only if they differ from it. While an edit is refused, none is called in force."""
    config = Config(machine_id="ada", endpoint=EndpointConfig(url="https://sync.example.org"))
    loaded = Loaded(config=config, sums={"config.toml": 7})
    with closing(Spool(str(tmp_path))) as spool:
        record_config_health(spool, loaded, None)
        taken = read_applied_config(spool)
        assert taken is not None
        assert (taken.sums, taken.url, taken.machine_id) == ({"config.toml": 7}, "https://sync.example.org", "ada")
        assert spool.meta(CONFIG) is None
        record_config_health(spool, loaded, "line 3: a key is missing")
        assert (read_applied_config(spool), spool.meta(CONFIG)) == (None, "line 3: a key is missing")
