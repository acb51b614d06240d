"""Named mutants of what captures and pushes: ingest, spool, upload and what they use."""

from __future__ import annotations

from mutants.named import CORE, SOURCES, Named

CAPTURE: list[Named] = [
    Named(
        "the checkpoint moves before what was read is stored",
        "ingest/stream_capture.py",
        "        with context.spool.transaction():\n"
        "            self._store(final, to_end=final.last and content.search.done)\n",
        "        with context.spool.transaction():\n"
        "            if self._stream.id == UNSTORED:\n                self._add_stream()\n"
        "            self._save(to_end=final.last and content.search.done)\n"
        "        context.now_ms()\n"
        "        with context.spool.transaction():\n"
        "            self._store(final, to_end=final.last and content.search.done)\n",
    ),
    Named(
        "an ack takes any revision of its session",
        "spool/outbox.py",
        "UPDATE session SET pushed = max(pushed, ?) WHERE id = ?",
        "UPDATE session SET pushed = max(pushed, revision, ?) WHERE id = ?",
    ),
    Named(
        "an ack takes all segments of its stream",
        "spool/outbox.py",
        'self._remove("id = ?", item.id)',
        'self._remove("stream = ?", item.stream_id)',
    ),
    Named(
        "bytes of an old generation count as acknowledged of the new one",
        "spool/outbox.py",
        "acked = iif(generation = ?, max(acked, ?), acked)",
        "acked = iif(generation >= ?, max(acked, ?), acked)",
    ),
    Named(
        "identity without the inode",
        "reader.py",
        "return self.same_file(now) and self.size == now.st_size",
        "return self.size == now.st_size",
    ),
    Named(
        "identity without the times",
        "reader.py",
        "now.st_size and self._times() == (now.st_mtime_ns, now.st_ctime_ns)",
        "now.st_size",
    ),
    Named(
        "growth without the hash before the offset",
        "ingest/content.py",
        "return self._read_bytes.probe(checkpoint.offset, self._digest) == checkpoint.probe",
        "return True",
    ),
    Named(
        "an edit that leaves the size is taken for growth",
        "ingest/content.py",
        "if self.size < checkpoint.offset or checkpoint.edited(now):",
        "if self.size < checkpoint.offset:",
    ),
    Named(
        "reading resumes at the wrong offset",
        "ingest/pipeline.py",
        "for chunk in content.chunks(stream.folded):",
        "for chunk in content.chunks(stream.folded and stream.folded + 1):",
    ),
    Named(
        "half a line is read as a line",
        "ingest/line_reader.py",
        "cut = find_last_end(descriptor, offset, data)",
        "cut = len(data)",
    ),
    Named(
        "a rewrite goes on in its generation",
        "ingest/position.py",
        "            generation=self.generation + 1,\n",
        "            generation=self.generation,\n",
    ),
    Named(
        "a rewrite keeps what the outbox does not lead to",
        "ingest/position.py",
        "shared = min(keep, queued, self.gap[0] if self.gap else keep)",
        "shared = keep",
    ),
    Named(
        "an endpoint that takes nothing parks what it refuses",
        "upload/__init__.py",
        "    if refused and not total.sessions + total.segments:\n        raise refused[0][1]\n",
        "",
    ),
    Named(
        "what is read again is not compared with what was captured",
        "ingest/content.py",
        "        data = pread(self._descriptor, extent.length, extent.start)\n"
        "        return data if self._digest(data) == extent.digest else None",
        "        return pread(self._descriptor, extent.length, extent.start)",
    ),
    Named(
        "a vanished file takes its session with it",
        "ingest/presence.py",
        "    catalog.save_file(replace(file, gone_ms=now_ms, trouble=None))\n",
        "    catalog.save_file(replace(file, gone_ms=now_ms, trouble=None))\n"
        "    if file.stream is not None:\n"
        "        context.spool.outbox.drop_generation(file.stream, 0)\n"
        "        catalog._db.execute('UPDATE session SET pushed = revision')\n",
    ),
    Named(
        "the budget of the outbox is no limit",
        "ingest/pipeline.py",
        "return self._spool.outbox.size + packed",
        "return 0 * self._spool.outbox.size + packed",
    ),
    Named(
        "another store at the same address goes unnoticed",
        "upload/binding.py",
        "same = known == identity and follows and context.spool.meta(UNTRUSTED) is None",
        "same = known is not None",
    ),
    Named(
        "the endpoint's word on an offset is believed unseen",
        "ingest/reconcile.py",
        "return digest_like(remote, masked()) == known_digest(remote) and position >= remote.length",
        "return position >= remote.length",
    ),
    Named(
        "what the endpoint lost is not read again",
        "ingest/position.py",
        "gap=(offset, first) if offset < first else self.gap)",
        "gap=self.gap)",
    ),
    Named(
        "a stale revision is not raised",
        "upload/settle.py",
        "        context.spool.catalog.raise_revision("
        "item.id, problem.revision or item.revision, context.clock.now_ms())\n",
        "",
        (["tests/integration/test_single_faults.py", "-k", "cloned"],),
        hangs=True,
    ),
    Named(
        "an outage is taken for a refusal",
        "endpoint/retry.py",
        "except (TooLarge, Rejected) as error:",
        "except EndpointError as error:",
    ),
    Named(
        "what waits behind a parked item is pushed",
        "spool/outbox.py",
        '"segment.generation NOT IN (SELECT generation FROM segment AS parked"\n'
        '    " WHERE parked.stream = segment.stream AND parked.parked IS NOT NULL)"',
        '"segment.parked IS NULL"',
    ),
    Named(
        "a moved session keeps its old path",
        "ingest/presence.py",
        "return source is not None and RecordBuilder(context, source, live).refresh(",
        "return False and RecordBuilder(context, source, live).refresh(",
    ),
    Named(
        "a long file is read to its end before others have their turn",
        "ingest/stream_capture.py",
        "if step.last or (self._limit is not None and read >= self._limit):",
        "if step.last:",
        (["tests/integration/test_turns.py"],),
    ),
    Named(
        "an edit of a file that is not read to its end goes unnoticed",
        "reader.py",
        "now.st_size == (self.size if self.size >= 0 else ~self.size)",
        "now.st_size == self.size",
        (["tests/integration/test_turns.py"],),
    ),
    Named(
        "what was refused is unpacked with each look",
        "ingest/compressed.py",
        "if refusal is not None and refusal.identity == identity:",
        "if refusal is not None and False:",
        (["tests/integration/test_packed.py"],),
    ),
    Named(
        "what came since the first start is left out for its age",
        "ingest/backfill.py",
        "context.oldest_ms * 1_000_000 and not is_new",
        "context.oldest_ms * 1_000_000",
        (["tests/integration/test_backfill.py"],),
    ),
    Named(
        "the stream that grows fastest has every batch",
        "spool/outbox.py",
        "        if live_ms is not None:\n",
        "        if live_ms is not None and False:\n",
        (["tests/integration/test_turns.py"],),
    ),
    Named(
        "a pin is read as if no tool packed",
        "ingest/catch_up.py",
        "if any(location.unit.packed for",
        "if any(location.unit.packed and False for",
        (["tests/integration/test_packed.py"],),
    ),
    Named(
        "lines end at U+2028 too",
        "ingest/pipeline.py",
        'for line in _views(data) if source.views and b"\\0" not in data else split_lines(data):',
        'for line in [text.encode("utf-8", "replace") for text in data.decode("utf-8", "replace").splitlines()]:',
        (*SOURCES, *CORE),
    ),
    Named(
        "a letter of UTF-16 ends a line",
        "line_ends.py",
        '    if before.endswith(b"\\0") and (not after or after.startswith(b"\\0")):',
        '    if before.endswith(b"\\0"):',
        (["tests/unit/test_line_ends.py"],),
    ),
    Named(
        "a damaged record ends the look",
        "sources/damaged.py",
        "DAMAGED = (\n    msgspec.MsgspecError,\n    ValueError,\n",
        "DAMAGED = (\n",
        (*SOURCES, *CORE),
    ),
    Named(
        "a directory that was renamed away and back stays gone",
        "ingest/lines.py",
        "if known is not None and known.gone_ms is not None:\n            note_back(context, known)",
        "if known is not None and known.gone_ms is not None and False:\n            note_back(context, known)",
        (["tests/unit/daemon/test_promptness.py", "-k", "renamed_away"],),
    ),
    Named(
        "what a restored endpoint lost stays acknowledged",
        "ingest/reconcile_plan.py",
        "        return [MoveTo(given_up)]  # the queued bytes follow directly\n",
        "        return [MoveTo(position.given_up(position.acked))]\n",
        (["tests/integration/test_safety.py", "-k", "restored_endpoint"],),
    ),
    Named(
        "what follows a parked item goes in circles",
        "ingest/position.py",
        "if run.parked or (not begins and",
        "if (not begins and",
        (["tests/integration/test_parked_generations.py"],),
    ),
    Named(
        "a generation that the endpoint has passed is sent again and again",
        "ingest/reconcile_plan.py",
        "if theirs == generation and remote.length <= acknowledged and not queue.has_earlier(theirs):",
        "if theirs == generation and remote.length <= acknowledged:",
        (["tests/integration/test_parked_generations.py"],),
    ),
]
