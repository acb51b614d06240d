"""Drawn mutants without a noticeable effect, each with the reason.

A mutant is known by its key (see draw.py), so an entry outlives changes elsewhere in the file. When the code of a
key changes, its mutant is judged again: `make mutants` names the entries whose code is gone.
"""

HARMLESS: dict[str, str] = {
    "endpoint/server/query.py::Query.number: if not (value.isascii() and value.isdigit() and len(value) < 12 "
    "and lowest <= int(value) <= highest): => if not (value.isascii() and value.isdigit() and len(value) < 13 "
    "and lowest <= int(value) <= highest):": "no bound has twelve digits",
    "ingest/pipeline.py::StreamPipeline._queue_masked: def _queue_masked(self, step: Step, offset: int, "
    "masked: Masked, start: int = 0, end: int = 1 << 62) -> int: => def _queue_masked(self, step: Step, offset: int, "
    "masked: Masked, start: int = 0, end: int = 2 << 62) -> int:": "no file is as long as either",
    "ingest/endings.py::FileEndings.__init__: self.unended = 0 => self.unended = 1": (
        "it is compared with REPORTED, many MiB, alone"
    ),
    "upload/__init__.py::upload: sessions: list[Item] = "
    "list(context.spool.outbox.sessions(BATCH_ITEMS // 2, since_ms)) => sessions: list[Item] = "
    "list(context.spool.outbox.sessions(BATCH_ITEMS // 3, since_ms))": (
        "the share of records in a batch; the rest is in the next one"
    ),
    "upload/context.py::_name: return hashlib.blake2b(text.encode(), digest_size=16).hexdigest() => "
    "return hashlib.blake2b(text.encode(), digest_size=17).hexdigest()": "the name of a batch is longer by two digits",
    "upload/verify.py::compare: wrong = found is None or found.streams.get(claim.name, (-1, 0)) < (claim.generation,"
    " claim.acked) => wrong = found is None or found.streams.get(claim.name, (-2, 0)) < (claim.generation,"
    " claim.acked)": "each generation is above both",
    "redact/sight.py::Sight._move: self._ahead = min(2 * self._ahead + 256, _AHEAD) if dense else 0 => "
    "self._ahead = min(3 * self._ahead + 256, _AHEAD) if dense else 0": (
        "how much is blanked for the next place; what is seen stays the same"
    ),
    "endpoint/server/sweeper.py::_listing_is_due: return 0 <= now_ms - last < 2 * DAY_MS => "
    "return 1 <= now_ms - last < 2 * DAY_MS": "less than a day was answered before",
    "endpoint/server/postgres_database.py::PostgresDatabase.executemany: "
    "with self._connection.cursor(binary=True) as cursor: => with self._connection.cursor(binary=False) as cursor:": (
        "the format of results, of which there are none"
    ),
    "daemon/capture_loop.py::CaptureLoop._read_files: if size > SLICE_BYTES or self._resources.clock.monotonic() > "
    "until or group[-1].stays_first: => if size > SLICE_BYTES or self._resources.clock.monotonic() >= until "
    "or group[-1].stays_first:": "the end of a slice is no exact time",
    "redact/arguments.py::_windows: if high >= 0: => if high > 0: #2": "a window that ends at 0 is empty",
    "ingest/admission.py::admit: return Admission.EXCLUDED => return None": (
        "callers ask only whether the verdict is YES or LATER, and mypy refuses None here"
    ),
    "ingest/record.py::RecordBuilder._store: others = [stream.fold for stream in member.streams if not stream.thread "
    "and stream.fold.last_ms is not None] => others = [stream.fold for stream in member.streams if not stream.thread "
    "or stream.fold.last_ms is not None]": (
        "only their last times are used, together with those of the threads, and folds without one are skipped there"
    ),
    "ingest/content.py::Lines._read: "
    "self._head = chunk if head is None and len(chunk.data) <= CHUNK and not chunk.piece else None => "
    "self._head = chunk if head is None and len(chunk.data) < CHUNK and not chunk.piece else None": (
        "a first chunk of exactly that size is read twice, with the same result"
    ),
    "ingest/line_reader.py::_read_pieces: while offset < size: => while offset <= size:": (
        "at the end nothing is read, and the result is the one of the loop's end"
    ),
    "ingest/pipeline.py::StreamPipeline._queue: if step.run and (step.run_start + step.run_length != offset or "
    "step.run_length + len(masked) > CHUNK): => if step.run and (step.run_start - step.run_length != offset or "
    "step.run_length + len(masked) > CHUNK):": "a run is cut into segments elsewhere",
    "ingest/pipeline.py::StreamPipeline._queue: self._pack(step) => pass": (
        "a run is cut into segments elsewhere: `_pack()` cuts at CHUNK bytes as well, and all of a step is consecutive"
    ),
    "upload/binding.py::bind: context.attempts = 0 => context.attempts = 1": (
        "the number only makes the name of the next batch; both sides accept the names of all LOST_ANSWERS attempts"
    ),
    "upload/items.py::_text: return None => pass": "the end of the function is next, and returns None as well",
    "upload/__init__.py::_limit_unpacked: if count == 0 or length <= limit => if count == 1 or length <= limit": (
        "a segment has at most CHUNK bytes, a part of UNPACKED: the first one always fits, and the second one as well"
    ),
    "watch/watcher.py::Watcher._rewatch: if again.targets == planned.targets or refused: => "
    "if again.targets == planned.targets and refused:": "one more pass, which adds no watch and thereby ends the loop",
    "watch/kernel.py::_setting: return None => pass": "the end of the function is next, and returns None as well",
    "watch/scan.py::scan: stat = entry.stat(follow_symlinks=False) => stat = entry.stat(follow_symlinks=True)": (
        "only entries that are no links come here"
    ),
    "watch/watcher.py::Watcher._expand: "
    'if last is not None and watched is last[0] and below.startswith(last[1] + "/"): '
    '=> if last is not None and watched is last[1] and below.startswith(last[1] + "/"):': (
        "a directory inside of another one is searched a second time, and a path that is found twice is listed once"
    ),
    'watch/targets.py::_next: return prefix + resolved[len(prefix) :].split("/", 1)[0] => '
    'return prefix + resolved[len(prefix) :].split("/", 2)[0]': "the first part is the same, however often it is split",
    "watch/coverage.py::CoverageCheck.is_known: "
    "return state.mode is WatchMode.WATCHED and self._covered.get(state.watched) == _hash(stats) => "
    "return state.mode is not WatchMode.WATCHED and self._covered.get(state.watched) == _hash(stats)": (
        "the shortcut saves work alone: without it the kernel is asked, and the answer is the same"
    ),
    "daemon/archive.py::Archive._watch: while output.read(4096): => while output.read(4097):": (
        "the size of a read whose bytes are thrown away"
    ),
    'daemon/power.py::PowerAndNetwork._read: return "" => pass': (
        "callers compare only with words, which neither None nor an empty text equals"
    ),
    "upload/verify.py::compare: wrong = result.records and (found is None or (found.revision or 0) < claim.revision)"
    " => wrong = result.records and (found is None or (found.revision or 1) < claim.revision)": (
        "a revision is not below the clock, in milliseconds"
    ),
    "upload/verify.py::compare: wrong = found is None or found.streams.get(claim.name, (-1, 0)) < (claim.generation,"
    " claim.acked) => wrong = found is None or found.streams.get(claim.name, (-1, 1)) < (claim.generation,"
    " claim.acked)": "each generation is above -1",
    "daemon/upload_loop.py::UploadLoop.step: "
    "if not self._paused and self.pusher.state.wait_ms() <= 0: => "
    "if not self._paused and self.pusher.state.wait_ms() <= 1:": ("an attempt that comes a millisecond earlier"),
    "daemon/archive_copy.py::ArchiveCopy.pending: def pending(self, since_ms: int = 0) -> bool: => "
    "def pending(self, since_ms: int = 1) -> bool:": "no session was last active in the first millisecond of 1970",
    "daemon/endpoint_state.py::EndpointState.wait_ms: left, now = due - self._clock.now_ms(), "
    "int(self._clock.monotonic() * 1000) => left, now = due - self._clock.now_ms(), "
    "int(self._clock.monotonic() * 1001)": "a wait that is shorter by a thousandth",
    "daemon/capture_loop.py::CaptureLoop.do: self._news = False => pass": (
        "the upload loop is woken once more at the end of the round, and finds nothing to do"
    ),
    "daemon/pusher.py::Pusher.idle_seconds: return max(self.state.wait_ms(), 0) / 1000 => "
    "return max(self.state.wait_ms(), 0) / 1001": "a wait that is shorter by a thousandth",
    "daemon/resources.py::_open_spool: if spool.meta(CLEAN) is None and known: => "
    "if spool.meta(CLEAN) is None or known:": (
        "a spool that was closed properly is checked as well: only the start takes longer"
    ),
    "redact/confirm.py::_ranges: if mark - high > last + 1: => if mark - high > last - 1:": (
        "ranges that touch are searched apart: a place on the border is confirmed twice, with the same result"
    ),
    "daemon/daemon_run.py::DaemonRun.__init__: self._note_refusal(None) => pass": (
        "`note_change()`, a few lines on, has the configuration read again at once, which notes the same"
    ),
    'endpoint/transport.py::_read: raise httpx.ReadTimeout("the deadline passed while reading the answer") => pass': (
        "the timer aborts the connection at the same deadline, so that the next read raises"
    ),
    "endpoint/server/connections.py::Connection.abort: self._stop_timers() => pass": (
        "aborting the transport has connection_lost() called next, which stops them"
    ),
    "spool/archive_counts.py::ArchiveCounts: listed: bool = False => listed: bool = True": (
        "the default is that of a record that is never shown: `count_archive` and all others give the value"
    ),
    "endpoint/server/query.py::_MachineId.to_string: return value => return None": (
        "Starlette requires the method to make an address of its parts, which nothing does"
    ),
    'spool/stats.py::: " UNION SELECT session FROM stream WHERE waiting > 0 AND held IS NULL" => '
    '" UNION SELECT session FROM stream WHERE waiting > 0 OR held IS NULL"': (
        "more sessions are looked at, and those without anything to push are left out afterwards"
    ),
    "redact/redactor.py::_name_version: state = blake2b(digest_size=16, key=policy.key[:64]) => "
    "state = blake2b(digest_size=17, key=policy.key[:64])": (
        "any length tells two policies apart; the name is compared and never shown"
    ),
    "ingest/history.py::_Capture.read_again: wanted, groups, size = set(native_ids), Groups(), 0 => "
    "wanted, groups, size = set(native_ids), Groups(), 1": "a bound of many MiB that is reached a byte earlier",
    "redact/flood.py::_mask_text: if quotes * _SHORTEST_STRING < len(text) and _is_without_words(text): => "
    "if quotes // _SHORTEST_STRING < len(text) and _is_without_words(text):": (
        "both ways mask such a text; the condition bounds the memory that the faster one takes"
    ),
    "upload/settle.py::_handle_record_problem: "
    "if (problem.revision or 0) > max(item.revision + wire.STEP, wire.FREE_REVISION): => "
    "if (problem.revision or 1) > max(item.revision + wire.STEP, wire.FREE_REVISION):": (
        "neither is greater than the number that every device may use"
    ),
}
