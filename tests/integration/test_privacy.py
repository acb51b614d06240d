"""What stays on this machine: secrets, excluded projects, transcripts that must not be stored."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sessiond import state, zstd
from sessiond.config import Config, Redaction
from sessiond.daemon.engine import Engine
from sessiond.device import identify
from sessiond.errors import ConfigError
from sessiond.privacy import IGNORE, Exclusion, Masking, Terms, read_terms
from sessiond.redact import OVERLAP, load_rules
from sessiond.redact.examples import expand
from sessiond.redact.policy import Policy
from sessiond.session import Fold
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness, encode, pushed, settings_of

KEY = b"k" * 32
OTHER = "5f1d7c1e-0000-4000-8000-000000000002"
TOKEN = expand("ghp_<A36>", 1)
CODEX = ".codex/sessions/2026/09/01/rollout-2026-09-01T10-00-00-5f1d7c1e-0000-7000-8000-000000000003.jsonl"


def masking(environ: dict[str, str] | None = None, **settings: object) -> Masking:
    """Return the masking of a configuration."""
    return Masking(read_terms(Config(**settings), environ or {}, KEY))


@pytest.fixture(scope="session")
def stars() -> Masking:
    return masking()


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        made.restart(redact="mask")
        yield made


def stored(harness: DaemonHarness) -> bytes:
    """Return the content of the spool's files, with frames unpacked."""
    harness.spool.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    found = [Path(harness.spool.path).read_bytes()]
    for (data,) in harness.spool.connection.execute("SELECT data FROM segment WHERE data IS NOT NULL"):
        found.append(zstd.decompress(data, 1 << 30))
    return b"\n".join(found)


def frames(harness: DaemonHarness) -> list[bytes]:
    """Return the queued frames."""
    rows = harness.spool.connection.execute("SELECT data FROM segment WHERE data IS NOT NULL")
    return [bytes(data) for (data,) in rows]


def on_disk(harness: DaemonHarness) -> bytes:
    """Return the content of all files of the spool as they are."""
    return b"".join(path.read_bytes() for path in Path(harness.state).glob("spool.db*"))


def planted() -> Iterator[tuple[str, str]]:
    """Return one secret of each rule: the part that the rule finds, and the text around it."""
    from sessiond.redact import Policy, Redactor

    redactor = Redactor(Policy())
    for rule in load_rules().rules:
        text = expand(rule.match[0], 77)
        masked = redactor.mask(text.encode()).data
        # The secret is what is covered: its longest part, so that it is in no other text by chance.
        parts, part = [], b""
        for old, new in zip(text.encode(), masked, strict=True):
            part = part + bytes((old,)) if new != old else b""
            parts.append(part)
        if len(max(parts, key=len)) > 4:
            yield max(parts, key=len).decode(), text


def test_no_planted_secret_leaves_the_machine(harness: DaemonHarness, tmp_path: Path) -> None:
    """Secrets of every kind, plain and as JSON within JSON, in lines of Claude Code and Codex, are not in the spool, in
    a request or at the endpoint.
    """
    wire: list[bytes] = []

    def listen(request, answer):  # type: ignore[no-untyped-def]
        wire.append(zstd_or_plain(request))
        return answer()

    harness.transport.fate = listen
    kinds = list(planted())
    assert len(kinds) >= 100
    for n, (_, text) in enumerate(kinds):
        harness.write(CLAUDE, claude(SESSION, n, text=f"see\n{text}\nthere"))
        harness.write(CLAUDE, claude(SESSION, 500 + n, text=json.dumps({"out": text})))
        if n % 20 == 0:
            harness.scan()  # hundreds at once would be masked as a whole, and counted once
    meta = {"id": "5f1d7c1e-0000-7000-8000-000000000003", "timestamp": "2026-09-01T10:00:00Z", "cwd": "/home/dev/p"}
    harness.write(CODEX, {"timestamp": "2026-09-01T10:00:00.000Z", "type": "session_meta", "payload": meta})
    for n, (_, text) in enumerate(kinds):
        payload = {"type": "function_call_output", "call_id": "c", "output": json.dumps({"output": text})}
        harness.write(CODEX, {"timestamp": "2026-09-01T10:00:01.000Z", "type": "response_item", "payload": payload})
        if n % 40 == 0:
            harness.scan()
    harness.scan()
    spool = stored(harness)
    harness.settle()
    store = b"".join(path.read_bytes() for path in (tmp_path / "endpoint").rglob("*") if path.is_file())
    held = b"".join(
        harness.held(session, stream["name"])
        for session, s in harness.held_sessions().items()
        for stream in s["streams"]
    )
    assert held.count(b"\n") == 3 * len(kinds) + 1
    for name, place in (("spool", spool + stored(harness)), ("wire", b"".join(wire)), ("store", store), ("held", held)):
        missed = [secret for secret, _ in kinds if secret.encode() in place]
        assert not missed, name
    assert sum(harness.spool.stats.redactions().values()) >= 3 * len(kinds)


def zstd_or_plain(request) -> bytes:  # type: ignore[no-untyped-def]
    """Return the body of a request as text, with its frames unpacked."""
    import base64

    body = request.content
    if request.url.path == "/v1/push":
        body = pushed(request.headers["content-encoding"], body)
    lines = [body]
    for line in body.split(b"\n"):
        item = json.loads(line) if line.startswith(b"{") else {}
        if item.get("encoding") == "zstd":
            lines.append(zstd.decompress(base64.b64decode(item["data"]), 1 << 30))
    return b"\n".join(lines)


def test_names_are_masked_too(harness: DaemonHarness) -> None:
    """Working directory, branch, title and file name may hold a token (a clone of https://token@host)."""
    lines = [
        claude(SESSION, 1, cwd=f"/home/dev/x-{TOKEN}", gitBranch=f"fix/{TOKEN}"),
        {"type": "custom-title", "customTitle": f"about {TOKEN}", "sessionId": SESSION},
    ]
    harness.write(CLAUDE, *lines)
    harness.settle()
    held = harness.held_sessions()[SESSION]
    assert TOKEN not in json.dumps(held)
    assert held["record"]["working_directory"] == f"/home/dev/x-{'*' * 40}"
    assert held["record"]["git_branch"] == f"fix/{'*' * 40}"
    assert held["title"] == f"about {'*' * 40}"
    assert TOKEN.encode() not in stored(harness)


def test_what_is_read_again_is_masked_alike(harness: DaemonHarness) -> None:
    """After a lost spool both sides find the same position: nothing is sent again."""
    harness.write(CLAUDE, *(claude(SESSION, n, text=f"{TOKEN} {'z' * 5000}") for n in range(50)))
    harness.settle()
    before = harness.held(SESSION)
    harness.close()
    for name in os.listdir(harness.state):
        if name.startswith("spool.db"):
            os.unlink(os.path.join(harness.state, name))
    harness.open()
    harness.transport.requests.clear()
    harness.settle()
    assert harness.held(SESSION) == before and TOKEN.encode() not in before
    assert [stream["generation"] for stream in harness.held_sessions()[SESSION]["streams"]] == [0]
    assert sum(size for where, size in harness.transport.requests if where == "/v1/push") < 6000


@pytest.mark.parametrize("budget", [512 << 20, pytest.param(1 << 16, marks=pytest.mark.slow)])
def test_a_secret_on_the_cut_of_a_long_record_is_found(tmp_path: Path, budget: int) -> None:
    """A record of more than 64 MiB is sent in pieces of 1 MiB. A key across each cut is masked, with a full outbox or
    an empty one, and so is the key of another long record when the outbox fills in its middle.
    """
    chunk, size = 1 << 20, 66 << 20
    filler = os.urandom(size // 2).hex() if budget < size else "lorem ipsum " * (size // 12)
    stars = masking()
    with daemon_harness(tmp_path, budget=budget) as harness:
        harness.restart(redact="mask")
        head = encode(claude(SESSION, 1))
        line = bytearray(b'{"type":"user","cwd":"/home/dev","message":{"content":"' + filler.encode())
        for cut in range(chunk, len(line) - 100, chunk):
            at = cut - 20 - len(head)
            line[at - 1 : at + len(TOKEN) + 1] = b" " + TOKEN.encode() + b" "
        line += b'"}}\n'
        path = harness.write(CLAUDE, head, bytes(line))
        harness.settle(rounds=200)
        held = harness.held(SESSION)
        assert len(held) == os.path.getsize(path)
        assert TOKEN.encode() not in held
        assert b"*" * len(TOKEN) in held
        assert held == stars.mask(head).data + stars.mask(bytes(line)).data


def test_a_change_of_rules_masks_what_is_queued(harness: DaemonHarness) -> None:
    """The queue is masked once, at the start. What was pushed is not touched."""
    mine = "acme-0123456789abcdef"
    harness.write(CLAUDE, claude(SESSION, 1, text=f"pushed {mine}"))
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 2, text=f"queued {mine}"), {"type": "custom-title", "customTitle": mine})
    harness.scan()
    assert mine.encode() in stored(harness)
    queued = frames(harness)
    harness.environ["ACME_TOKEN"] = mine
    harness.restart(redaction={"secrets_from": ["env:*_TOKEN"]})
    left = on_disk(harness)
    assert mine.encode() not in left
    assert not any(frame in left for frame in queued)
    assert mine.encode() not in stored(harness).replace(b"pushed " + mine.encode(), b"")
    harness.restart()
    harness.settle()
    held = harness.held(SESSION)
    assert held.count(mine.encode()) == 1 and f"queued {'*' * len(mine)}".encode() in held


def test_after_new_rules_and_a_lost_spool_only_what_differs_is_sent_again(harness: DaemonHarness) -> None:
    """Where both rules mask alike, the stream goes on; the rest is a new generation, and the old one stays readable."""
    mine = "acme-0123456789abcdef"
    harness.write(CLAUDE, claude(SESSION, 1, text=f"has {mine}"))
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1))
    harness.settle()
    before = harness.held(SESSION)
    harness.close()
    for path in Path(harness.state).glob("spool.db*"):
        path.unlink()
    harness.environ["ACME_TOKEN"] = mine
    harness.settings["redaction"] = {"secrets_from": ["env:*_TOKEN"]}
    harness.open()
    harness.settle()
    streams = {name: item["streams"][0]["generation"] for name, item in harness.held_sessions().items()}
    assert streams == {SESSION: 1, OTHER: 0}
    assert mine.encode() not in harness.held(SESSION) and harness.held(SESSION, generation=0) == before


def test_an_excluded_project_leaves_no_trace(harness: DaemonHarness) -> None:
    """Its record, transcript and path are not stored. Once it is no longer excluded, its session is captured."""
    harness.restart(exclude=["/home/dev/secret/**"])
    path = harness.write(CLAUDE, {"type": "summary", "summary": "x"}, claude(SESSION, 1, cwd="/home/dev/secret/a/b"))
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1))
    harness.settle()
    assert set(harness.held_sessions()) == {OTHER}
    assert SESSION.encode() not in stored(harness)
    harness.restart(exclude=[])
    harness.settle()
    assert harness.held(SESSION) == Path(path).read_bytes()


def test_excluding_later_removes_what_is_stored(harness: DaemonHarness) -> None:
    """What was queued is gone from the disk, and so is what was acknowledged; the endpoint keeps what it has."""
    harness.write(CLAUDE, claude(SESSION, 1, text="a private title"))
    harness.scan()
    packed = frames(harness)
    harness.settle()
    sent = harness.held(SESSION)
    harness.write(CLAUDE, claude(SESSION, 2))
    harness.scan()
    packed += frames(harness)
    assert len(packed) == 2
    harness.restart(exclude=["project"])
    left = on_disk(harness)
    assert b"a private title" not in left
    assert not any(frame in left for frame in packed)
    harness.write(CLAUDE, claude(SESSION, 3))
    harness.settle()
    assert harness.held(SESSION) == sent
    harness.restart(exclude=[])
    harness.settle()
    assert harness.held(SESSION).count(b"\n") == 3


def test_a_file_in_the_project_excludes_it(harness: DaemonHarness, tmp_path: Path) -> None:
    """`.sessiondignore` counts for all directories below it, from the session's next change on."""
    project = tmp_path / "project"
    (project / "deep").mkdir(parents=True)
    path = harness.write(CLAUDE, claude(SESSION, 1, cwd=str(project / "deep")))
    harness.scan()
    (project / IGNORE).touch()
    harness.write(CLAUDE, claude(SESSION, 2, cwd=str(project / "deep")))
    harness.settle()
    assert harness.held_sessions() == {} and not list(harness.spool.catalog.sessions())
    (project / IGNORE).unlink()
    harness.ingest(path)
    harness.settle()
    assert harness.held(SESSION) == Path(path).read_bytes()


@pytest.mark.parametrize("hashed", [False, True])
def test_an_ignore_file_counts_at_the_next_scan(tmp_path: Path, hashed: bool) -> None:
    """The session itself need not change. What is queued is removed, and all is captured once the file is gone."""
    project = tmp_path / "project"
    (project / "deep").mkdir(parents=True)
    (tmp_path / "state").mkdir(mode=0o700)
    for session, cwd in ((SESSION, str(project / "deep")), (OTHER, "/elsewhere")):
        path = tmp_path / ".claude/projects/-x" / f"{session}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(claude(session, 1, cwd=cwd)))
    settings = {"state_dir": str(tmp_path / "state"), "hash_paths": hashed, "endpoint": {"url": "http://127.0.0.1:9"}}
    lock = state.Lock(str(tmp_path / "state"))
    engine = Engine(settings_of(msgspec.convert(settings, type=Config)), {"HOME": str(tmp_path)}, lock)
    resources = engine.resources

    def look() -> tuple[set[str], int]:
        engine.capture_loop.capture_all()
        (queued,) = resources.spool.connection.execute("SELECT count(*) FROM segment WHERE length > 0").fetchone()
        return {one.native_id for one in resources.spool.catalog.sessions()}, queued

    assert look() == ({SESSION, OTHER}, 2)
    (project / IGNORE).touch()
    assert look() == look() == ({OTHER}, 1)
    (project / IGNORE).unlink()
    assert look() == ({SESSION, OTHER}, 2)
    engine.stop()
    lock.release()


def test_records_wait_until_the_project_is_known(harness: DaemonHarness) -> None:
    """A prompt that is queued before the session names its directory is not stored; after a minute it is."""
    path = harness.write(CLAUDE, {"type": "queue-operation", "content": "hush", "sessionId": SESSION})
    harness.now_ms = os.stat(path).st_mtime_ns // 1_000_000 + 10
    assert [outcome.retry for outcome in harness.ingest(path)] == [True]
    assert b"hush" not in stored(harness)
    harness.restart(exclude=["secret"])
    harness.write(CLAUDE, claude(SESSION, 1, cwd="/home/dev/secret"))
    assert [outcome.retry for outcome in harness.ingest(path)] == [False]
    assert b"hush" not in stored(harness) and SESSION.encode() not in stored(harness)
    lone = harness.write(CLAUDE.replace(SESSION, OTHER), {"type": "queue-operation", "content": "later"})
    harness.now_ms = os.stat(lone).st_mtime_ns // 1_000_000 + 60_000
    harness.ingest(lone)
    assert b"later" in stored(harness)


def test_records_alone_are_kept_where_transcripts_are_off(harness: DaemonHarness) -> None:
    """The transcript is neither stored nor sent, even if it was queued. Once it is switched on, it is read."""
    path = harness.write(CLAUDE, claude(SESSION, 1, text="one"))
    harness.settle()
    harness.write(CLAUDE, claude(SESSION, 2, text="two"))
    harness.scan()
    harness.restart(transcripts=False)
    harness.write(CLAUDE, claude(SESSION, 3, text="three"))
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1, text="other"))
    harness.settle()
    assert harness.held(SESSION).count(b"\n") == 1
    assert harness.held_sessions()[SESSION]["record"]["message_count"] == 3
    assert harness.held_sessions()[OTHER]["record"]["message_count"] == 1
    assert b"three" not in stored(harness) and b"other" not in stored(harness)
    assert not os.listdir(harness.ingesting.pins.directory)
    harness.restart(transcripts=True)
    harness.settle()
    assert harness.held(SESSION) == Path(path).read_bytes()
    assert b"other" in harness.held(OTHER)


def test_paths_in_records_may_be_hashed(harness: DaemonHarness) -> None:
    """Equal paths stay equal, and without the key they can't be guessed."""
    harness.restart(hash_paths=True)
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.settle()
    record = harness.held_sessions()[SESSION]["record"]
    assert record["working_directory"].startswith("hashed:") and record["source_path"].startswith("hashed:")
    other = Masking(Terms(key=b"o" * 32, hash_paths=True))
    assert other._hashed("/home/dev/project") != record["working_directory"]


@pytest.mark.parametrize(
    ("glob", "directory", "excluded"),
    [
        ("/home/dev/work", "/home/dev/work", True),
        ("/home/dev/work", "/home/dev/work/deep/er", True),
        ("/home/dev/work", "/home/dev/workshop", False),
        ("/home/dev/work/", "/home/dev/work", True),
        ("~/work/*", "/home/dev/work/a", True),
        ("~/work/*", "/home/dev/work", False),
        ("~/work/**", "/home/dev/work", True),
        ("secret-*", "/srv/secret-one/src", True),
        ("secret-*", "/srv/one", False),
        ("C:/work", "C:\\work\\a", True),
        ("~/work", "", False),
    ],
)
def test_globs_of_projects(glob: str, directory: str, excluded: bool) -> None:
    """A glob excludes what it matches and everything below. Without a slash it matches a name."""
    assert Exclusion([glob], "/home/dev").excludes(directory) is excluded


def test_many_directories_are_asked_about_as_one_is(tmp_path: Path) -> None:
    """A common parent directory is checked once, and hides no file in a deeper one."""
    inner = tmp_path / "work" / "one" / "secret" / "deep"
    inner.mkdir(parents=True)
    directories = [f"{tmp_path}/work", f"{tmp_path}/work/one", f"{tmp_path}/work/two", "", str(inner)]
    assert not Exclusion().excludes_any(directories)
    assert Exclusion(["secret"]).excludes_any(directories)
    (inner.parent / IGNORE).touch()
    made = Exclusion()
    assert made.excludes_any(directories)
    assert not made.excludes_any(directories[:-1])
    (inner.parent / IGNORE).unlink()
    assert made.lifted()


def test_an_ignore_file_of_another_user_does_not_count(tmp_path: Path) -> None:
    """In /tmp every user may make one. A link or a directory does not count either."""
    (tmp_path / IGNORE).symlink_to("/etc/passwd")
    assert not Exclusion().excludes(str(tmp_path))
    assert not Exclusion().excludes("/home/\0")


def test_secrets_come_from_where_the_user_says(tmp_path: Path) -> None:
    """A .netrc gives its passwords, other files the values of secret names, the environment what a glob names."""
    (tmp_path / ".netrc").write_text("machine a login ada password first-pass\ndefault password 'second-pass'")
    (tmp_path / "env").write_text("# note\nexport API_KEY='third-secret'\nREGION=eu-west-1\ndb_password: fourth-one,\n")
    (tmp_path / "token").write_text("fifth-secret\n")
    wanted = ["~/.netrc", "~/env", "~/token", "~/missing", "env:*_TOKEN"]
    environ = {"HOME": str(tmp_path), "A_TOKEN": "sixth-secret", "A_TOKENS": "no", "EMPTY_TOKEN": ""}
    terms = read_terms(Config(redaction=Redaction(secrets_from=wanted)), environ, KEY)
    assert b"first-pass" in terms.policy.secrets and b"eu-west-1" not in terms.policy.secrets
    assert {b"third-secret", b"fourth-one", b"fifth-secret", b"sixth-secret"} < set(terms.policy.secrets)
    assert "secret" not in repr(terms).replace("secrets", "")


def test_terms_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    """The error says which file, key and rule."""
    with pytest.raises(ConfigError, match=r"redaction\.rules: can't be read: no such file"):
        read_terms(Config(redaction=Redaction(rules=["/nowhere"])), {}, KEY)
    (tmp_path / "mine.toml").write_text("[[rules]]\nid = 'bad'\nregex = '('")
    with pytest.raises(ConfigError, match=r"mine\.toml: rules\.bad\.regex"):
        read_terms(Config(redaction=Redaction(rules=[f"{tmp_path}/mine.toml"])), {}, KEY).check()
    with pytest.raises(ConfigError, match="jwtt") as raised:
        read_terms(Config(redaction=Redaction(allow_rules=["jwtt"])), {}, KEY).check()
    assert raised.value.hint == 'did you mean "jwt"?'


def test_the_version_follows_the_terms(tmp_path: Path) -> None:
    """The version changes with every setting that decides what is found, without compiling a rule."""
    (tmp_path / "mine.toml").write_text("[[rules]]\nid = 'x'\nregex = 'xyzzy[0-9]+'")
    versions = [
        masking(**settings).version  # type: ignore[arg-type]
        for settings in (
            {},
            {"redact": "off"},
            {"redact": "hash"},
            {"hash_paths": True},
            {"redaction": Redaction(allow_rules=["jwt"])},
            {"redaction": Redaction(rules=[f"{tmp_path}/mine.toml"])},
            {"redaction": Redaction(secrets_from=["env:T"]), "environ": {"T": "some-secret"}},
        )
    ]
    assert len(set(versions)) == len(versions)


def test_what_is_looked_at_again_is_as_long_as_a_secret() -> None:
    """The module `ingest` does not import the rules for this length."""
    from sessiond.ingest import line_reader

    assert line_reader.CONTEXT == OVERLAP


def test_nothing_is_loaded_until_something_is_masked(tmp_path: Path) -> None:
    """A daemon that has nothing to read keeps its memory."""
    made = Masking(read_terms(Config(), {}, KEY), str(tmp_path))
    assert made._redactor is None
    assert made.mask(TOKEN.encode()).findings
    assert any(name.endswith(".hsdb") for name in os.listdir(tmp_path))


def test_the_spool_has_no_key(harness: DaemonHarness) -> None:
    """A stolen spool does not allow trying values on the hashes in it."""
    key = identify(harness.state).key
    assert len(key) == 64
    assert key.encode() not in stored(harness) and bytes.fromhex(key) not in stored(harness)
    assert key not in repr(identify(harness.state))
    os.chmod(os.path.join(harness.state, "device.toml"), 0o644)
    with pytest.raises(ConfigError) as raised:
        identify(harness.state)
    assert raised.value.hint == f"run: chmod 600 {harness.state}/device.toml"
    assert sqlite3.sqlite_version


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts descriptors in /proc")
def test_a_directory_in_place_of_rules_costs_no_descriptor(tmp_path: Path) -> None:
    """The configuration is read at each change, so what one attempt leaves open adds up."""
    config = Config(redaction=Redaction(rules=[str(tmp_path)]))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ConfigError, match="is a directory"):
        read_terms(config, {"HOME": str(tmp_path)}, KEY)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_name_is_shortened_only_after_it_is_masked() -> None:
    """The rules would not recognise half of a secret that was cut."""
    fold = Fold(prompt="x" * 185 + " " + expand("ghp_<A36>", 1))
    Masking(Terms(policy=Policy())).fold(fold)
    assert fold.prompt is not None and len(fold.prompt) == 200
    assert set(fold.prompt[186:]) == {"*"}
