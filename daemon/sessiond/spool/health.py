"""What only a running daemon knows, kept in the spool for `status`, which reads no memory of other processes."""

from __future__ import annotations

from sessiond import __version__
from sessiond.frozen_record import FrozenRecord, parse_object, to_json
from sessiond.spool import Spool

CAPTURE = "health.capture"
ENDPOINT = "health.endpoint"
COPIES = "health.copies"
"""Meta key: what hints at a second running copy of this state directory."""
DAY_MS = 86_400_000
SETUP = "health.setup"
"""Meta key: a digest of the token and what else a push depends on, as of the last state of the endpoint."""
CONFIG = "health.config"
"""Meta key: why an edit of the configuration was refused."""
TAKEN = "health.taken"
"""Meta key: the configuration that was taken over."""
PACE_MS = 60_000
CLEAN = "clean"
"""Meta key: the daemon that used the spool last closed it, so that nothing needs to be checked."""
REBUILT = "rebuilt"
"""Meta key: when this spool was begun because the one before was damaged, in unix ms."""


class RootHealth(FrozenRecord):
    """How a root is watched."""

    tool: str
    path: str
    how: str
    detail: str = ""
    hint: str = ""
    directories: int = 0


class CaptureHealth(FrozenRecord):
    """How far capturing is. `discovered` counts session files per tool; None before the first look is over."""

    pid: int = 0
    """Of the daemon that tells it: what another one told before says nothing about this one."""
    machine_id: str = ""
    discovered: dict[str, int] | None = None
    looked_ms: int | None = None
    """When the last look at everything began that somebody asked for (SIGUSR1)."""
    found_bytes: int = 0
    """Of the files in `discovered`, as of the last look."""
    backlog: int = 0
    """Files that were found and not yet read."""
    backlog_bytes: int = 0
    waits: str | None = None
    """Why the old ones of them are not read now, in words: on battery."""
    left_out: int = 0
    """Files that are left out by `backfill`."""
    left_out_bytes: int = 0
    torn: int = 0
    """Files that were met in a rewrite and are looked at again."""
    roots: list[RootHealth] = []  # noqa: RUF012 - each has its own


class EndpointHealth(FrozenRecord):
    """How the endpoint is."""

    url: str = ""
    archive: bool = False
    """Whether it is the built-in archive, whose address is another one at each start."""
    last_ack_ms: int | None = None
    latency_ms: int | None = None
    failing_since_ms: int | None = None
    failures: int = 0
    kind: str | None = None
    """`unreachable`, `refused` (the token), `wrong` (not our protocol)."""
    reason: str | None = None
    hint: str | None = None
    next_attempt_ms: int | None = None
    rejections: int = 0
    """How many of the last failures in a row were wrong answers, as against none: a refused token, a login page."""
    rejected_since_ms: int | None = None
    """When the first of them came."""
    paused: bool = False
    """Whether they have come for so long that the next try is a quarter of an hour after the last one."""
    pace_ms: int | None = None
    """Since when the bytes in `pace_bytes` were acknowledged, the last of them at `last_ack_ms`: how fast it goes."""
    pace_bytes: int = 0
    waits: str | None = None
    """Why the backlog is not pushed now, in words: on battery, on a metered network."""

    def paced(self, old: EndpointHealth, count: int) -> EndpointHealth:
        """Return this state with the bytes acknowledged in about the last minute, after `old` and `count` more.

        The count starts again once nothing was acknowledged for a minute.
        """
        now = self.last_ack_ms or 0
        if old.pace_ms is None or not 0 <= now - (old.last_ack_ms or 0) < PACE_MS:
            return self.replace(pace_ms=now)
        if now - old.pace_ms < PACE_MS:
            return self.replace(pace_ms=old.pace_ms, pace_bytes=old.pace_bytes + count)
        return self.replace(pace_ms=(old.pace_ms + now) // 2, pace_bytes=(old.pace_bytes + count) // 2)


class ConfigHealth(FrozenRecord):
    """The configuration that the daemon took over last, as far as `status` needs it."""

    sums: dict[str, int] = {}  # noqa: RUF012 - each has its own
    """Checksums (CRC-32) of the files and the variables that it was read from."""
    url: str = ""
    machine_id: str = ""
    redact: str = "mask"
    version: str = __version__
    """Of the sessiond that found it good; another one may not."""


class CopiesHealth(FrozenRecord):
    """What hints at a second running copy of this state directory, such as a home that was copied."""

    host: str = ""
    """Name of the machine that uses the directory."""
    identity: str = ""
    """What tells that machine from others; it stays when the name changes."""
    moved_from: str | None = None
    """Name of another machine that used the directory before."""
    moved_ms: int | None = None
    diverged_ms: list[int] = []  # noqa: RUF012 - each has its own
    """When the endpoint was found to have stored another push of this device than our last ones: the newest few."""

    def diverged(self, now_ms: int) -> int:
        """Return how often that was found within the last day."""
        return sum(0 <= now_ms - moment < DAY_MS for moment in self.diverged_ms)


def read_copies(spool: Spool) -> CopiesHealth:
    """Read what hints at a second copy."""
    text = spool.meta(COPIES)
    return CopiesHealth() if text is None else CopiesHealth.from_json(parse_object(text))


def note_host(spool: Spool, host: str, identity: str, now_ms: int) -> None:
    """Note the machine that uses the spool from now on."""
    old = read_copies(spool)
    if (old.host, old.identity) == (host, identity):
        return
    fresh = old.replace(host=host, identity=identity)
    if old.identity and old.identity != identity:
        fresh = fresh.replace(moved_from=old.host, moved_ms=now_ms)
    spool.set_meta(COPIES, to_json(fresh))


def note_divergence(spool: Spool, now_ms: int) -> None:
    """Note that the endpoint's last push of this device is none of ours. Once may be a restored backup of this side.

    Again and again means that two copies push in turn: each one finds the other's push.
    """
    old = read_copies(spool)
    spool.set_meta(COPIES, to_json(old.replace(diverged_ms=[*old.diverged_ms[-9:], now_ms])))


def read_capture(spool: Spool) -> CaptureHealth:
    """Read the health of capturing as the last daemon left it. Raises: ValueError for what is not ours, as below."""
    text = spool.meta(CAPTURE)
    if text is None:
        return CaptureHealth()
    found = parse_object(text)
    return CaptureHealth.from_json(found, roots=[RootHealth.from_json(root) for root in found.get("roots", ())])


def read_endpoint(spool: Spool) -> EndpointHealth:
    """Read the health of the endpoint as the last daemon left it."""
    text = spool.meta(ENDPOINT)
    return EndpointHealth() if text is None else EndpointHealth.from_json(parse_object(text))


def read_taken(spool: Spool) -> ConfigHealth | None:
    """Read the configuration that was taken over last; None where `status` has to read the files itself."""
    text = spool.meta(TAKEN)
    return None if text is None else ConfigHealth.from_json(parse_object(text))


def write_taken(spool: Spool, health: ConfigHealth | None) -> None:
    """Keep the configuration that was taken over."""
    spool.set_meta(TAKEN, None if health is None else to_json(health))


def write(spool: Spool, health: CaptureHealth | EndpointHealth) -> None:
    """Keep a health."""
    key = CAPTURE if isinstance(health, CaptureHealth) else ENDPOINT
    spool.set_meta(key, to_json(health))
