"""The scanner: what it counts beside the files that are captured."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sessiond.daemon.scanner import Scanner
from sessiond.watch import Watcher
from support.capture import lab, write
from support.harness import daemon_harness


def test_sessions_in_directories_that_are_not_searched_are_all_counted(tmp_path: Path) -> None:
    """However many other files there are: a scan looks at some, and the next one goes on."""
    with daemon_harness(tmp_path) as harness:
        skipped = Path(harness.home, ".gemini/tmp/engine/bin")
        for folder in ("a", "a/b", "a/b/chats"):
            (skipped / folder).mkdir(parents=True)
        for number in range(20):
            (skipped / "a" / str(number)).touch()
        (skipped / "a/b/chats/session-2026-04-01T10-00-00000010.jsonl").write_bytes(b"{}\n")
        roots = [each for each in harness.ingesting.roots if each[0].tool == "gemini-cli"]
        resources = msgspec.structs.replace(harness.resources(), roots=roots)
        watcher, counted = Watcher(resources.watched), []
        made = Scanner(resources, watcher)
        made.further_entries = 10
        watcher.start()
        try:
            for _ in range(3):
                made.scan(resources.watched)
                assert made.counts is not None
                counted.append(made.counts.unrecognized["gemini-cli"])
        finally:
            watcher.close()
        assert counted == [0, 1, 1]


def test_a_file_whose_admission_is_decided_again_is_read_by_the_next_scan(tmp_path: Path) -> None:
    """Another endpoint answers, or one from a backup: it may lack a restored session. The daemon runs on."""
    path = write(tmp_path, 1, age=60)
    with lab(tmp_path, {"exclude": ["project"]}) as harness:
        harness.look()
        harness.scan()
        assert not harness.queue.backlog
        with harness.resources.spool.transaction():
            harness.resources.spool.catalog.reread_files_without_session()
        harness.scan()
        assert [entry.path for entry in harness.queue.backlog.newest()] == [path]
