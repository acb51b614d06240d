"""State that only a running daemon knows. It is stored in the spool, where `status` reads it."""

from __future__ import annotations

from sessiond import __version__
from sessiond.frozen_record import FrozenRecord, parse_object, to_json
from sessiond.spool import Spool

CAPTURE = "health.capture"
ROOTS = "health.roots"
"""Meta key: how the roots are watched, which seldom changes and is long."""
ENDPOINT = "health.endpoint"
COPIES = "health.copies"
"""Meta key: signs of a second running copy of this state directory."""
DAY_MS = 86_400_000
SETUP = "health.setup"
"""Meta key: a digest of the token and the other settings of a push, when the state of the endpoint was last stored."""
CONFIG = "health.config"
"""Meta key: why an edit of the configuration was rejected."""
APPLIED_CONFIG = "health.taken"
"""Meta key: the configuration in effect."""
UNNAMED = "history.unnamed"
"""Meta key: prompts of histories that name no session."""
PACE_MS = 60_000
CLEAN = "clean"
"""Meta key: set if the last daemon closed the spool, so that it needs no check."""
REBUILT = "rebuilt"
"""Meta key: when this spool was created because the previous one was damaged, in unix ms."""


class RootHealth(FrozenRecord):
    """How a root is watched."""

    tool: str
    path: str
    how: str
    detail: str = ""
    hint: str = ""
    directories: int = 0


class CaptureHealth(FrozenRecord):
    """The state of capturing. `discovered` counts session files per tool; None before the first scan has finished."""

    pid: int = 0
    """PID of the daemon that wrote this; values of an earlier daemon are ignored."""
    machine_id: str = ""
    discovered: dict[str, int] | None = None
    looked_ms: int | None = None
    """When the last full scan on request (SIGUSR1) began."""
    found_bytes: int = 0
    """Bytes of the files in `discovered`, at the last scan."""
    backlog: int = 0
    """Files that were found but not read yet."""
    backlog_bytes: int = 0
    waits: str | None = None
    """Why old files are not read now, for people: on battery."""
    left_out: int = 0
    """Files that are left out by `backfill`."""
    left_out_bytes: int = 0
    sessionless: dict[str, int] = {}  # noqa: RUF012 - each has its own
    """Side files per tool whose session is not captured."""
    sessionless_bytes: int = 0
    unrecognized: dict[str, int] = {}  # noqa: RUF012 - each has its own
    """Files per tool that look like sessions and that no source reads."""
    torn: int = 0
    """Files that were in the middle of a rewrite and will be read again."""
    roots: list[RootHealth] = []  # noqa: RUF012 - each has its own


class EndpointHealth(FrozenRecord):
    """The state of the connection to the endpoint."""

    url: str = ""
    archive: bool = False
    """Whether it is the built-in archive, whose address changes at each start."""
    last_ack_ms: int | None = None
    latency_ms: int | None = None
    failing_since_ms: int | None = None
    failures: int = 0
    kind: str | None = None
    """`unreachable`, `refused` (the token) or `wrong` (another protocol)."""
    reason: str | None = None
    hint: str | None = None
    next_attempt_ms: int | None = None
    rejections: int = 0
    """How many of the last consecutive failures were wrong answers, such as a refused token or a login page."""
    rejected_since_ms: int | None = None
    """When the first of those wrong answers came."""
    paused: bool = False
    """Whether they have lasted so long that only every quarter of an hour is tried."""
    pace_ms: int | None = None
    """Start of the period in which `pace_bytes` were acknowledged, which ends at `last_ack_ms`; gives the speed."""
    pace_bytes: int = 0
    waits: str | None = None
    """Why the backlog is not pushed now, for people: on battery, on a metered network."""

    def paced(self, old: EndpointHealth, count: int) -> EndpointHealth:
        """Return this state with the bytes acknowledged in about the last minute, after `old` and `count` more.

        The count starts again after a minute without an acknowledgement.
        """
        now = self.last_ack_ms or 0
        if old.pace_ms is None or not 0 <= now - (old.last_ack_ms or 0) < PACE_MS:
            return self.replace(pace_ms=now)
        if now - old.pace_ms < PACE_MS:
            return self.replace(pace_ms=old.pace_ms, pace_bytes=old.pace_bytes + count)
        return self.replace(pace_ms=(old.pace_ms + now) // 2, pace_bytes=(old.pace_bytes + count) // 2)


class ConfigHealth(FrozenRecord):
    """The part of the configuration in effect that `status` needs."""

    sums: dict[str, int] = {}  # noqa: RUF012 - each has its own
    """Checksums (CRC-32) of the files and variables that it was read from."""
    url: str = ""
    machine_id: str = ""
    redact: str = "mask"
    version: str = __version__
    """The version of sessiond that accepted it; another one may not."""


class CopiesHealth(FrozenRecord):
    """Signs of a second running copy of this state directory, for example in a copied home."""

    host: str = ""
    """Name of the machine that uses the directory."""
    identity: str = ""
    """Identifies that machine even if its name changes."""
    moved_from: str | None = None
    """Name of another machine that used the directory before."""
    moved_ms: int | None = None
    diverged_ms: list[int] = []  # noqa: RUF012 - each has its own
    """When the endpoint turned out to have a push of this device that is not ours: the most recent times."""

    def diverged(self, now_ms: int) -> int:
        """Return how often that happened within the last day."""
        return sum(0 <= now_ms - moment < DAY_MS for moment in self.diverged_ms)


def read_copies(spool: Spool) -> CopiesHealth:
    """Return the signs of a second copy."""
    text = spool.meta(COPIES)
    return CopiesHealth() if text is None else CopiesHealth.from_json(parse_object(text))


def note_host(spool: Spool, host: str, identity: str, now_ms: int) -> None:
    """Store which machine uses the spool from now on."""
    old = read_copies(spool)
    if (old.host, old.identity) == (host, identity):
        return
    new = old.replace(host=host, identity=identity)
    if old.identity and old.identity != identity:
        new = new.replace(moved_from=old.host, moved_ms=now_ms)
    spool.set_meta(COPIES, to_json(new))


def note_divergence(spool: Spool, now_ms: int) -> None:
    """Store that the endpoint's last push of this device is not ours.

    Once may be a restored backup of this machine. Repeatedly means that two copies push in turn.
    """
    old = read_copies(spool)
    spool.set_meta(COPIES, to_json(old.replace(diverged_ms=[*old.diverged_ms[-9:], now_ms])))


def read_capture(spool: Spool) -> CaptureHealth:
    """Return the state of capturing that the last daemon stored. Raises: ValueError for a damaged value, as below."""
    roots = parse_object(spool.meta(ROOTS) or "{}").get("roots", ())
    return read_capture_progress(spool).replace(roots=[RootHealth.from_json(root) for root in roots])


def read_capture_progress(spool: Spool) -> CaptureHealth:
    """Return the same without the state of the roots: there are hundreds, which take most of the time."""
    text = spool.meta(CAPTURE)
    return CaptureHealth() if text is None else CaptureHealth.from_json(parse_object(text))


def read_endpoint(spool: Spool) -> EndpointHealth:
    """Return the state of the endpoint that the last daemon stored."""
    text = spool.meta(ENDPOINT)
    return EndpointHealth() if text is None else EndpointHealth.from_json(parse_object(text))


def read_applied_config(spool: Spool) -> ConfigHealth | None:
    """Return the configuration in effect; None if `status` has to read the files itself."""
    text = spool.meta(APPLIED_CONFIG)
    return None if text is None else ConfigHealth.from_json(parse_object(text))


def write_applied_config(spool: Spool, health: ConfigHealth | None) -> None:
    """Store the configuration in effect."""
    spool.set_meta(APPLIED_CONFIG, None if health is None else to_json(health))


def write(spool: Spool, health: CaptureHealth | EndpointHealth) -> None:
    """Store a state."""
    if isinstance(health, EndpointHealth):
        spool.set_meta(ENDPOINT, to_json(health))
        return
    from msgspec.json import encode  # late: `status` only reads, and does not import it

    with spool.transaction():
        spool.set_meta(ROOTS, encode({"roots": health.roots}, enc_hook=vars).decode())
        write_progress(spool, health)


def write_progress(spool: Spool, health: CaptureHealth) -> None:
    """Store the state of capturing, but not that of the roots, which is as it was."""
    spool.set_meta(CAPTURE, to_json(health.replace(roots=[])))


def add_unnamed(spool: Spool, path: str, count: int, *, restart: bool) -> None:
    """Add to the prompts of a history that name no session, so that they are in none. `restart`: count from zero."""
    known = read_unnamed(spool)
    total = count + (0 if restart else known.get(path, 0))
    if total != known.get(path, 0):
        spool.set_meta(UNNAMED, to_json({**known, path: total}))


def read_unnamed(spool: Spool) -> dict[str, int]:
    """Return the number of prompts that name no session, by the path of their history."""
    return parse_object(spool.meta(UNNAMED) or "{}")
