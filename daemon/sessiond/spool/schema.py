"""The schema of the spool, as migrations. The first creates version OLDEST, each other one the next version."""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

    CREATE TABLE session (
        id INTEGER PRIMARY KEY,
        uuid TEXT NOT NULL UNIQUE,
        tool TEXT NOT NULL,
        native_id TEXT NOT NULL,
        record BLOB,                          -- JSON; NULL until the content is enough for a record
        parent TEXT,                          -- UUID
        title TEXT,
        opening INTEGER,                      -- Fold.first_answer_key; finds copies of a session
        active_ms INTEGER NOT NULL DEFAULT 0, -- last activity in the content
        ongoing INTEGER NOT NULL DEFAULT 0,
        gone_ms INTEGER,                      -- when its last file was first seen missing
        revision INTEGER NOT NULL DEFAULT 0,
        pushed INTEGER NOT NULL DEFAULT 0,    -- the revision that the endpoint acknowledged
        parked TEXT                           -- why the endpoint will never accept this revision
    );
    CREATE INDEX session_due ON session (active_ms DESC, revision, pushed, parked)
        WHERE revision > pushed AND parked IS NULL;
    CREATE INDEX session_parked ON session (parked) WHERE parked IS NOT NULL;
    CREATE INDEX session_bare ON session (id) WHERE record IS NULL;
    CREATE INDEX session_ongoing ON session (active_ms) WHERE ongoing;
    CREATE INDEX session_tool ON session (tool, active_ms, ongoing) WHERE record IS NOT NULL;
    CREATE INDEX session_directory ON session (json_extract(CAST(record AS TEXT), '$.working_directory'));
    CREATE INDEX session_parent ON session (parent) WHERE parent IS NOT NULL;
    CREATE INDEX session_opening ON session (opening) WHERE opening IS NOT NULL;

    CREATE TABLE tally (                      -- counts the sessions that have a record, for status; kept by triggers
        tool TEXT PRIMARY KEY,
        sessions INTEGER NOT NULL,
        ongoing INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TRIGGER session_made AFTER INSERT ON session WHEN NEW.record IS NOT NULL BEGIN
        INSERT INTO tally VALUES (NEW.tool, 1, NEW.ongoing)
            ON CONFLICT DO UPDATE SET sessions = sessions + 1, ongoing = ongoing + NEW.ongoing;
    END;
    CREATE TRIGGER session_ended AFTER DELETE ON session WHEN OLD.record IS NOT NULL BEGIN
        UPDATE tally SET sessions = sessions - 1, ongoing = ongoing - OLD.ongoing WHERE tool = OLD.tool;
    END;
    CREATE TRIGGER session_changed AFTER UPDATE OF record, ongoing ON session
        WHEN (OLD.record IS NULL) != (NEW.record IS NULL) OR OLD.ongoing != NEW.ongoing BEGIN
        INSERT INTO tally VALUES (NEW.tool, 0, 0) ON CONFLICT DO NOTHING;
        UPDATE tally SET sessions = sessions + (NEW.record IS NOT NULL) - (OLD.record IS NOT NULL),
            ongoing = ongoing + (NEW.ongoing AND NEW.record IS NOT NULL) - (OLD.ongoing AND OLD.record IS NOT NULL)
            WHERE tool = NEW.tool;
    END;

    CREATE TABLE stream (
        id INTEGER PRIMARY KEY,
        session INTEGER NOT NULL REFERENCES session,
        name TEXT NOT NULL,
        thread INTEGER NOT NULL,
        generation INTEGER NOT NULL DEFAULT 0,
        folded INTEGER NOT NULL DEFAULT 0,    -- bytes that were folded into the record
        queued INTEGER NOT NULL DEFAULT 0,    -- bytes whose transcript has entered the outbox
        acked INTEGER NOT NULL DEFAULT 0,     -- bytes of this generation that the endpoint acknowledged
        known INTEGER NOT NULL DEFAULT 1,     -- 0: ask the endpoint how much it has before pushing
        gap_from INTEGER, gap_to INTEGER,     -- acknowledged and then lost by the endpoint: to be read again
        held BLOB,                            -- what the endpoint says it holds, until it is reconciled
        rank INTEGER NOT NULL DEFAULT 0,      -- newest first
        lost INTEGER NOT NULL DEFAULT 0,      -- bytes that exist neither at the source nor at the endpoint
        waiting INTEGER NOT NULL DEFAULT 0,   -- segments in the outbox that are not parked
        skipped INTEGER,                      -- where its transcript stopped being kept (transcripts = false)
        damaged INTEGER NOT NULL DEFAULT 0,   -- the fold's, where status counts them
        unknown TEXT,                         -- the fold's unknown record types, a JSON list; NULL: none
        fold BLOB NOT NULL,                   -- the ends of its parts; see folds.py
        UNIQUE (session, name)
    );
    CREATE INDEX stream_waiting ON stream (rank DESC, session, waiting, held, folded, acked)
        WHERE waiting > 0 AND held IS NULL;
    CREATE INDEX stream_unknown ON stream (rank DESC) WHERE NOT known AND held IS NULL;
    CREATE INDEX stream_skipped ON stream (id) WHERE skipped IS NOT NULL;
    CREATE INDEX stream_behind ON stream (rank DESC, session, folded, queued, acked, waiting, gap_from, held)
        WHERE queued < folded OR gap_from IS NOT NULL OR held IS NOT NULL;

    CREATE INDEX stream_lost ON stream (lost) WHERE lost > 0;
    CREATE INDEX stream_odd ON stream (session, damaged, unknown) WHERE damaged > 0 OR unknown IS NOT NULL;

    CREATE TABLE page (                       -- of a part of a stream's fold
        stream INTEGER NOT NULL,
        part INTEGER NOT NULL,
        number INTEGER NOT NULL,
        data BLOB NOT NULL,
        UNIQUE (stream, part, number)
    );

    CREATE TABLE file (
        path BLOB PRIMARY KEY,
        tool TEXT NOT NULL,
        stream INTEGER REFERENCES stream,
        checkpoint BLOB,
        pin TEXT,                             -- name of its hard link in the state directory
        gone_ms INTEGER,
        trouble TEXT                          -- why it could not be read, shown by status
    ) WITHOUT ROWID;
    CREATE INDEX file_stream ON file (stream);
    CREATE INDEX file_pin ON file (stream, pin) WHERE pin IS NOT NULL;
    CREATE INDEX file_trouble ON file (tool) WHERE trouble IS NOT NULL;

    CREATE TABLE mark (                       -- how far a session in a database was read: its watermark
        path BLOB NOT NULL,
        native_id TEXT NOT NULL,
        mark TEXT NOT NULL,
        PRIMARY KEY (path, native_id)
    ) WITHOUT ROWID;

    CREATE TABLE extent (
        stream INTEGER NOT NULL,
        start INTEGER NOT NULL,
        length INTEGER NOT NULL,
        digest BLOB NOT NULL,
        PRIMARY KEY (stream, start)
    ) WITHOUT ROWID;

    CREATE TABLE redaction (                  -- number of masked secrets by rule; never a value
        rule TEXT PRIMARY KEY,
        count INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE segment (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        stream INTEGER NOT NULL REFERENCES stream,
        generation INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        length INTEGER NOT NULL,              -- of the bytes; 0 for the start of a generation
        data BLOB,                            -- a zstd frame; NULL for the start of a generation
        size INTEGER NOT NULL DEFAULT 0,      -- of the frame
        previous INTEGER, keep INTEGER,       -- start of a generation: see wire.PushGeneration
        queued_ms INTEGER NOT NULL,
        parked TEXT
    );
    CREATE UNIQUE INDEX segment_order ON segment (stream, generation, offset, length);
    CREATE INDEX segment_count ON segment (parked, queued_ms, size);
    CREATE INDEX segment_parked ON segment (id) WHERE parked IS NOT NULL;
    CREATE INDEX segment_blocked ON segment (stream, generation, parked) WHERE parked IS NOT NULL;
    """,
    """
    -- Bytes missing at the endpoint that the user gave up: `queue drop`.
    ALTER TABLE stream ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
    -- 1: the endpoint may have bytes of the stream that this spool never pushed there.
    ALTER TABLE stream ADD COLUMN unproven INTEGER NOT NULL DEFAULT 0;
    -- The revision that the user gave up: `queue drop`.
    ALTER TABLE session ADD COLUMN dropped INTEGER;
    CREATE INDEX session_dropped ON session (dropped, revision) WHERE dropped = revision;
    CREATE INDEX session_gone ON session (tool) WHERE gone_ms IS NOT NULL AND record IS NOT NULL;
    -- Every stream that is not safe at the endpoint; safety.py reads nothing else.
    CREATE INDEX stream_unsafe ON stream
        (session, folded, queued, acked, waiting, known, gap_from, gap_to, held, lost, accepted, skipped)
        WHERE skipped IS NULL AND (waiting > 0 OR queued != folded OR acked != folded OR gap_from IS NOT NULL
            OR held IS NOT NULL OR NOT known OR lost > 0);

    -- What an endpoint acknowledged of a stream before another endpoint was configured.
    CREATE TABLE acknowledged (
        endpoint TEXT NOT NULL,
        stream INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        length INTEGER NOT NULL,
        PRIMARY KEY (endpoint, stream)
    ) WITHOUT ROWID;
    CREATE INDEX acknowledged_stream ON acknowledged (stream);

    -- The sessions in the built-in archive, while another endpoint is configured.
    CREATE TABLE archived (
        session TEXT NOT NULL,                -- UUID
        machine TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        active_ms INTEGER NOT NULL,
        copied INTEGER NOT NULL DEFAULT 0,    -- 1: the endpoint has all of it, compared by digest
        problem TEXT,                         -- why the endpoint rejects it
        PRIMARY KEY (session, machine)
    ) WITHOUT ROWID;
    CREATE INDEX archived_pending ON archived (active_ms DESC, session, machine, bytes) WHERE NOT copied;

    -- Earlier versions kept trusting acknowledgements after the endpoint had changed: ask it about every stream.
    UPDATE stream SET known = 0 WHERE skipped IS NULL;
    INSERT INTO meta SELECT 'endpoint.url', iif(json_extract(value, '$.archive'), '', json_extract(value, '$.url'))
        FROM meta WHERE key = 'health.endpoint' AND json_valid(value);
    """,
    """
    -- Of the lost bytes, those of earlier generations: no file can bring them back.
    ALTER TABLE stream ADD COLUMN lost_before INTEGER NOT NULL DEFAULT 0;
    -- Bytes that were lost after the endpoint was left, and that it does not have.
    ALTER TABLE acknowledged ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
    """,
    """
    -- 1: only the prompts of the session are known, from the tool's history of prompts.
    ALTER TABLE session ADD COLUMN prompts_only INTEGER NOT NULL DEFAULT 0;
    """,
    """
    -- That of a side file; NULL: records.
    ALTER TABLE stream ADD COLUMN media_type TEXT;
    -- The sessions whose records mention the name of a side file, where its path does not say whose it is.
    CREATE TABLE mention (
        tool TEXT NOT NULL,
        name TEXT NOT NULL,
        session INTEGER NOT NULL REFERENCES session,
        PRIMARY KEY (tool, name)
    ) WITHOUT ROWID;
    CREATE INDEX mention_session ON mention (session);
    """,
    """
    -- Sessions that were erased and are never captured again. Nothing of their content.
    CREATE TABLE forgotten (
        session TEXT PRIMARY KEY,             -- UUID
        everywhere INTEGER NOT NULL,          -- 1: the endpoint has to erase it too
        ordered_ms INTEGER NOT NULL,
        acknowledged_ms INTEGER,              -- when the endpoint erased it
        archive_ms INTEGER,                   -- when the built-in archive erased it
        problem TEXT                          -- why one of them could not
    ) WITHOUT ROWID;
    CREATE INDEX forgotten_at_endpoint ON forgotten (ordered_ms) WHERE everywhere AND acknowledged_ms IS NULL;
    CREATE INDEX forgotten_in_archive ON forgotten (ordered_ms) WHERE archive_ms IS NULL;
    -- Sessions that were removed from the spool because their project was excluded, and that an endpoint has.
    CREATE TABLE left_at_endpoint (
        session TEXT NOT NULL,                -- UUID
        endpoint TEXT NOT NULL,               -- its id
        bytes INTEGER NOT NULL,
        PRIMARY KEY (endpoint, session)
    ) WITHOUT ROWID;
    """,
    """
    -- The names of the last acknowledged batches, in their order.
    CREATE TABLE batch (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
    """,
    """
    -- Digest of the bytes that were queued, if they are not those of the file because secrets were masked.
    -- x'': not known, because an earlier version queued them.
    ALTER TABLE extent ADD COLUMN masked BLOB;
    UPDATE extent SET masked = x'';
    -- Bytes of the current generation that the endpoint may have: to be compared with the extents, as the file is gone.
    ALTER TABLE stream ADD COLUMN unconfirmed INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX stream_unconfirmed ON stream (rank DESC) WHERE unconfirmed > 0;
    DROP INDEX stream_unsafe;
    CREATE INDEX stream_unsafe ON stream
        (session, folded, queued, acked, waiting, known, gap_from, gap_to, held, lost, accepted, skipped, unconfirmed)
        WHERE skipped IS NULL AND (waiting > 0 OR queued != folded OR acked != folded OR gap_from IS NOT NULL
            OR held IS NOT NULL OR NOT known OR lost > 0);
    """,
    """
    -- 1: the endpoint says that the session was erased; no order was given on this machine.
    ALTER TABLE forgotten ADD COLUMN learned INTEGER NOT NULL DEFAULT 0;
    -- Until then, what only this machine has of such a session is kept; NULL: it is erased.
    ALTER TABLE forgotten ADD COLUMN kept_until_ms INTEGER;
    """,
    """
    -- When the endpoint was found to have let the session go, because it keeps sessions for some days only.
    ALTER TABLE session ADD COLUMN expired_ms INTEGER;
    CREATE INDEX session_expired ON session (expired_ms, tool, revision, pushed, parked, gone_ms) WHERE expired_ms > 0;
    DROP INDEX session_gone;
    CREATE INDEX session_gone ON session (tool, expired_ms) WHERE gone_ms IS NOT NULL AND record IS NOT NULL;
    -- Bytes that the endpoint had of the stream when it let the session go, until it has all of them again.
    ALTER TABLE stream ADD COLUMN let_go INTEGER NOT NULL DEFAULT 0;
    DROP INDEX stream_unsafe;
    CREATE INDEX stream_unsafe ON stream
        (session, folded, queued, acked, waiting, known, gap_from, gap_to, held, lost, accepted, skipped, unconfirmed,
        let_go)
        WHERE skipped IS NULL AND (waiting > 0 OR queued != folded OR acked != folded OR gap_from IS NOT NULL
            OR held IS NOT NULL OR NOT known OR lost > 0);
    """,
    """
    -- Digests of what the endpoint acknowledged of streams: see pushed_digests.py. `rest` has up to 1,023 of its bytes.
    CREATE TABLE pushed_digest (
        number INTEGER PRIMARY KEY,           -- higher for what was pushed later
        stream INTEGER NOT NULL UNIQUE,
        generation INTEGER NOT NULL,
        length INTEGER NOT NULL,
        chain BLOB NOT NULL,
        rest BLOB NOT NULL
    );
    """,
    """
    -- The digest of a stream whose chain and rest were removed; NULL: it follows from these.
    ALTER TABLE pushed_digest ADD COLUMN digest BLOB;
    """,
    """
    -- 1: the endpoint's list of erased sessions has it. The list is read from its beginning for those from before.
    ALTER TABLE forgotten ADD COLUMN listed INTEGER NOT NULL DEFAULT 0;
    DELETE FROM meta WHERE key = 'forgotten.position';
    """,
)
OLDEST = 2
"""The oldest version that is migrated. Earlier ones were never released; such a spool is rebuilt."""
VERSION = OLDEST + len(MIGRATIONS) - 1
