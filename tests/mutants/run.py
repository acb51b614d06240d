"""Break the code on purpose, and see that the tests notice: `make mutants`.

Each mutant is one small change of a copy of daemon/. The suites run against the copy, cheapest first, until one
fails. A mutant that survives is a promise that no test keeps: the exit code is 1, and the table says which.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CORE = (
    [
        "tests/test_pipeline.py",
        "tests/test_single_faults.py",
        "tests/test_core_files.py",
        "tests/test_core_answers.py",
        "tests/test_core_outbox.py",
    ],
    ["tests/test_machine.py"],
)
SOURCES = (["tests/conformance/test_sources.py"],)
HOSTILE = "tests/process/test_hostile_endpoint.py"
LOOP = 60
"""Seconds after which a run of a mutant that `hangs` is ended: it goes round for ever, and was caught by that."""
PATIENCE = 240
"""Seconds that one run of any other suite may take; more is no verdict."""


class Mutant(NamedTuple):
    """A change: in which file, what becomes of what, and which suites have to notice."""

    name: str
    file: str
    old: str
    new: str
    suites: tuple[list[str], ...] = CORE
    hangs: bool = False


class Verdict(NamedTuple):
    """What came of a mutant: which test noticed, or None; and the seconds it took."""

    mutant: Mutant
    caught: str | None
    seconds: float


MUTANTS = [
    Mutant(
        "a project that was learned counts as a tool's move",
        "daemon/rooms.py",
        "find_places(self.config, self.environ) != self.found",
        "find_places(self.config, self.environ) != self.places",
        suites=(["tests/test_projects.py"],),
    ),
    Mutant(
        "the checkpoint moves before what was read is stored",
        "ingest/advance.py",
        "    with setting.spool.transaction():\n        capture.store(final, now_ms)\n        save(final.last)\n",
        "    with setting.spool.transaction():\n        save(final.last)\n    setting.now_ms()\n"
        "    with setting.spool.transaction():\n        capture.store(final, now_ms)\n",
    ),
    Mutant(
        "an ack takes any revision of its session",
        "spool/outbox.py",
        "UPDATE session SET pushed = max(pushed, ?) WHERE id = ?",
        "UPDATE session SET pushed = max(pushed, revision, ?) WHERE id = ?",
    ),
    Mutant(
        "an ack takes all segments of its stream",
        "spool/outbox.py",
        'self._delete("id = ?", segment.id)',
        'self._delete("stream = ?", segment.stream_id)',
    ),
    Mutant(
        "bytes of an old generation count as acknowledged of the new one",
        "spool/outbox.py",
        '"UPDATE stream SET acked = max(acked, ?) WHERE id = ? AND generation = ?",\n'
        "            (segment.offset + segment.length, segment.stream_id, segment.generation),",
        '"UPDATE stream SET acked = max(acked, ?) WHERE id = ?",\n'
        "            (segment.offset + segment.length, segment.stream_id),",
    ),
    Mutant(
        "identity without the inode",
        "reader.py",
        "return self.same_file(now) and self.size == now.st_size",
        "return self.size == now.st_size",
    ),
    Mutant(
        "identity without the times",
        "reader.py",
        "now.st_size and self._times() == (now.st_mtime_ns, now.st_ctime_ns)",
        "now.st_size",
    ),
    Mutant(
        "growth without the hash before the offset",
        "ingest/content.py",
        "return self._seen.probe(checkpoint.offset, self._digest) == checkpoint.probe",
        "return True",
    ),
    Mutant(
        "an edit that leaves the size is taken for growth",
        "ingest/content.py",
        "if self.size < checkpoint.offset or checkpoint.edited(now):",
        "if self.size < checkpoint.offset:",
    ),
    Mutant(
        "reading resumes at the wrong offset",
        "ingest/capture.py",
        "for chunk in content.chunks(stream.folded):",
        "for chunk in content.chunks(stream.folded and stream.folded + 1):",
    ),
    Mutant(
        "half a line is read as a line",
        "reader.py",
        'cut = data.rfind(b"\\n") + 1',
        "cut = len(data)",
    ),
    Mutant(
        "a rewrite goes on in its generation",
        "ingest/capture.py",
        "        stream.generation += 1\n",
        "",
    ),
    Mutant(
        "a rewrite keeps what the outbox does not lead to",
        "ingest/capture.py",
        "shared = min(keep, kept, stream.gap[0] if stream.gap else keep)",
        "shared = keep",
    ),
    Mutant(
        "an endpoint that takes nothing parks what it refuses",
        "upload.py",
        "    if refused and not total.sessions + total.segments:\n        raise refused[0][1]\n",
        "",
    ),
    Mutant(
        "what is read again is not compared with what was captured",
        "ingest/content.py",
        "        data = pread(self._descriptor, extent.length, extent.start)\n"
        "        return data if self._digest(data) == extent.digest else None",
        "        return pread(self._descriptor, extent.length, extent.start)",
    ),
    Mutant(
        "a vanished file takes its session with it",
        "ingest/gone.py",
        "    catalog.save_file(replace(file, gone_ms=now_ms, trouble=None))\n",
        "    catalog.save_file(replace(file, gone_ms=now_ms, trouble=None))\n"
        "    if file.stream is not None:\n"
        "        setting.spool.outbox.drop_generation(file.stream, 0)\n"
        "        catalog._db.execute('UPDATE session SET pushed = revision')\n",
    ),
    Mutant(
        "the budget of the outbox is no limit",
        "ingest/capture.py",
        "return self._spool.outbox.size + packed",
        "return 0 * self._spool.outbox.size + packed",
    ),
    Mutant(
        "another store at the same address goes unnoticed",
        "upload.py",
        'same = setting.spool.meta("endpoint") == identity and about.last_batch in expected',
        'same = setting.spool.meta("endpoint") is not None',
    ),
    Mutant(
        "the endpoint's word on an offset is believed unseen",
        "ingest/sync.py",
        "return position >= held.length and running.hexdigest() == held.sha256",
        "return position >= held.length",
    ),
    Mutant(
        "what the endpoint lost is not read again",
        "ingest/sync.py",
        "        stream.gap = (offset, first)\n        spool.catalog.set_gap(stream.id, offset, first)\n",
        "        pass\n",
    ),
    Mutant(
        "a stale revision is not raised",
        "upload.py",
        "            spool.catalog.raise_revision(item.id, problem.revision or item.revision, setting.now_ms())\n",
        "",
        (["tests/test_single_faults.py", "-k", "cloned"],),
        hangs=True,
    ),
    Mutant(
        "an outage is taken for a refusal",
        "upload.py",
        "except (TooLarge, Rejected) as error:",
        "except EndpointError as error:",
    ),
    Mutant(
        "what waits behind a parked item is pushed",
        "spool/outbox.py",
        '"segment.generation NOT IN (SELECT generation FROM segment AS parked"\n'
        '    " WHERE parked.stream = segment.stream AND parked.parked IS NOT NULL)"',
        '"segment.parked IS NULL"',
    ),
    Mutant(
        "a moved session keeps its old path",
        "ingest/gone.py",
        "return source is not None and refresh_session(setting, session, source, touched=False)",
        "return False",
    ),
    Mutant(
        "any change wakes the capture",
        "daemon/capturing.py",
        "            if self._places(path):\n                self._turns.add([path])\n",
        "            self._turns.add([path])\n",
        (["tests/test_core_daemon.py"],),
    ),
    Mutant(
        "a long file is read to its end before others have their turn",
        "ingest/advance.py",
        "if step.last or (most is not None and read >= most):",
        "if step.last:",
        (["tests/test_turns.py"],),
    ),
    Mutant(
        "an edit of a file that is not read to its end goes unnoticed",
        "reader.py",
        "now.st_size == (self.size if self.size >= 0 else ~self.size)",
        "now.st_size == self.size",
        (["tests/test_turns.py"],),
    ),
    Mutant(
        "a connection that comes after the deadline lives on",
        "endpoint/alarm.py",
        "            if self._over:\n                self._end()\n",
        "",
        (["tests/test_alarm.py"],),
    ),
    Mutant(
        "what was refused is unpacked with each look",
        "ingest/packed.py",
        "if refusal is not None and refusal.looked == looked:",
        "if refusal is not None and False:",
        (["tests/test_packed.py"],),
    ),
    Mutant(
        "what came since the first start is left out for its age",
        "ingest/backfill.py",
        "setting.oldest_ms * 1_000_000 and not came",
        "setting.oldest_ms * 1_000_000",
        (["tests/test_backfill.py"],),
    ),
    Mutant(
        "the stream that grows fastest has every batch",
        "spool/outbox.py",
        "        if live_ms is not None:\n",
        "        if live_ms is not None and False:\n",
        (["tests/test_turns.py"],),
    ),
    Mutant(
        "what could not be read is not tried again",
        "daemon/capturing.py",
        "            self._settled.pop(path, None)  # the next look",
        "            pass  # the next look",
        (["tests/process/test_limits.py", "-k", "can_not_be_read"],),
    ),
    Mutant(
        "redirects are followed",
        "endpoint/client.py",
        "        response = self._way.handle_request(request)\n",
        "        response = self._way.handle_request(request)\n        if 'location' in response.headers:\n"
        "            request = httpx.Request('GET', response.headers['location'], headers=self._headers)\n"
        "            response = self._way.handle_request(request)\n",
        ([HOSTILE, "-k", "redirect"],),
    ),
    Mutant(
        "any dictionary is the one that was meant",
        "endpoint/server/dictionaries.py",
        "if known != digest:",
        "if known is None:",
        (["tests/endpoint/test_dictionaries.py"],),
    ),
    Mutant(
        "a lost answer leaves the dictionary as it was",
        "endpoint/dictionary.py",
        'taken, self._dictionary = self._dictionary, b""',
        "taken = self._dictionary",
        (["tests/test_dictionary.py"],),
    ),
    Mutant(
        "whoever refuses a dictionary refuses the push",
        "endpoint/client.py",
        "except (Rejected, Refused, WrongEndpoint):",
        "except TooLarge:",
        (["tests/test_dictionary.py"],),
    ),
    Mutant(
        "a pin is read as if no tool packed",
        "ingest/backlog.py",
        "if any(place.unit.packed for",
        "if any(place.unit.packed and False for",
        (["tests/test_packed.py"],),
    ),
    Mutant(
        "an answer need not be to what was asked",
        "endpoint/client.py",
        "if answer.batch != batch or len(answer.results) != len(items):",
        "if len(answer.results) != len(items) and False:",
        ([HOSTILE, "-k", "bad_answer"],),
    ),
    Mutant(
        "a request may take for ever",
        "endpoint/client.py",
        "        self._line.begin()\n        self._alarm.arm(deadline)\n",
        "",
        ([HOSTILE, "-k", "drips"],),
    ),
    Mutant(
        "an answer may be of any size",
        "endpoint/client.py",
        "if len(content) > ANSWER_CAP:",
        "if False:",
        ([HOSTILE, "-k", "bad_answer"],),
    ),
    Mutant(
        "lines end at U+2028 too",
        "ingest/capture.py",
        'for line in _views(data) if source.views else data.split(b"\\n"):',
        'for line in [text.encode("utf-8", "replace") for text in data.decode("utf-8", "replace").splitlines()]:',
        (*SOURCES, *CORE),
    ),
    Mutant(
        "a damaged record ends the look",
        "ingest/capture.py",
        "DAMAGED = (\n    msgspec.MsgspecError,\n    ValueError,\n",
        "DAMAGED = (\n",
        (*SOURCES, *CORE),
    ),
]


def judge(mutant: Mutant) -> Verdict:
    """Run the suites against the mutant; name the test that noticed."""
    began = time.monotonic()
    caught = None
    with tempfile.TemporaryDirectory(prefix="sessiond-mutant-") as base:
        daemon = Path(base, "daemon")
        shutil.copytree(ROOT / "daemon", daemon, ignore=shutil.ignore_patterns("__pycache__"))
        file = daemon / "sessiond" / mutant.file
        text = file.read_text()
        assert text.count(mutant.old) == 1, f"{mutant.name}: {mutant.file} has it {text.count(mutant.old)} times"
        file.write_text(text.replace(mutant.old, mutant.new))
        for suite in mutant.suites:
            caught = _fails(suite, base, hangs=mutant.hangs)
            if caught:
                break
    return Verdict(mutant, caught, time.monotonic() - began)


def _fails(suite: list[str], base: str, *, hangs: bool) -> str | None:
    """Run a suite; name the first test that fails, or None."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    command += ["-o", f"pythonpath={base}/daemon tests", "--basetemp", f"{base}/tmp", "--hypothesis-seed=7", *suite]
    environ = {**os.environ, "PYTHONPATH": f"{base}/daemon", "SESSIOND_MACHINE_EXAMPLES": "30"}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, check=False, timeout=LOOP if hangs else PATIENCE
        )
    except subprocess.TimeoutExpired:
        if not hangs:
            raise
        return f"{suite[0]} (hangs)"
    # 1: a test failed. Anything else (no such test, no such option) would say nothing of the mutant.
    said = done.stdout.decode()
    assert done.returncode in (0, 1), said[-2000:]
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
    return (failed[1] if failed else suite[0]) if done.returncode else None


def main() -> int:
    """Judge all mutants, or those whose name has the arguments in it."""
    began = time.monotonic()
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in sys.argv[1:])]
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for verdict in pool.map(judge, chosen):
            survivors += verdict.caught is None
            caught = (verdict.caught or "SURVIVED").removeprefix("tests/")
            print(f"{verdict.mutant.name:<66} {verdict.seconds:4.0f} s  {caught}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught in {time.monotonic() - began:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
