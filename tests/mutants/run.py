"""Break the code on purpose, and see that the tests notice: `make mutants`.

Each mutant is one small change of a copy of daemon/. The suites run against the copy, cheapest first, until one
fails. A mutant that survives is a promise that no test keeps: the exit code is 1, and the table says which.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CORE = (["tests/test_pipeline.py", "tests/test_core_files.py", "tests/test_core_answers.py"], ["tests/test_machine.py"])
SOURCES = (["tests/conformance/test_sources.py"],)
HOSTILE = "tests/process/test_hostile_endpoint.py"
PATIENCE = 240
"""Seconds that one run of a suite may take: a mutant that goes round for ever is caught too."""


class Mutant(NamedTuple):
    """A change: in which file, what becomes of what, and which suites have to notice."""

    name: str
    file: str
    old: str
    new: str
    suites: tuple[list[str], ...] = CORE


MUTANTS = [
    Mutant(
        "the checkpoint moves before what was read is stored",
        "ingest/advance.py",
        "    with setting.spool.transaction():\n        capture.store(final, now_ms)\n        save(True)\n",
        "    with setting.spool.transaction():\n        save(True)\n    setting.now_ms()\n"
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
        " and self._times() == (now.st_mtime_ns, now.st_ctime_ns)",
        "",
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
        "if self.size < checkpoint.offset or (self.size == checkpoint.size and checkpoint.size >= 0):",
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
        "an outage parks what it meets",
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
    ),
    Mutant(
        "redirects are followed",
        "endpoint/client.py",
        "follow_redirects=False",
        "follow_redirects=True",
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
        "        self._alarm.arm(deadline)\n",
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
        "DAMAGED = (msgspec.MsgspecError, ValueError, RecursionError)",
        "DAMAGED = (KeyError,)",
        (*SOURCES, *CORE),
    ),
]


def judge(mutant: Mutant) -> tuple[Mutant, str | None, float]:
    """Run the suites against the mutant; name the one that noticed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sessiond-mutant-") as base:
        daemon = Path(base, "daemon")
        shutil.copytree(ROOT / "daemon", daemon, ignore=shutil.ignore_patterns("__pycache__"))
        file = daemon / "sessiond" / mutant.file
        text = file.read_text()
        assert text.count(mutant.old) == 1, f"{mutant.name}: {mutant.file} has it {text.count(mutant.old)} times"
        file.write_text(text.replace(mutant.old, mutant.new))
        for suite in mutant.suites:
            if not _passes(suite, base):
                return mutant, suite[0], time.monotonic() - began
    return mutant, None, time.monotonic() - began


def _passes(suite: list[str], base: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    command += ["-o", f"pythonpath={base}/daemon tests", "--basetemp", f"{base}/tmp", "--hypothesis-seed=7", *suite]
    environ = {**os.environ, "PYTHONPATH": f"{base}/daemon", "SESSIOND_MACHINE_EXAMPLES": "30"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    # 1: a test failed. Anything else (no such test, no such option) would say nothing of the mutant.
    assert done.returncode in (0, 1), done.stdout.decode()[-2000:]
    return done.returncode == 0


def main() -> int:
    """Judge all mutants, or those whose name has the argument in it."""
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in sys.argv[1:])]
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, caught, seconds in pool.map(judge, chosen):
            survivors += caught is None
            print(f"{mutant.name:<62} {caught or 'SURVIVED':<40} {seconds:4.0f} s", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
