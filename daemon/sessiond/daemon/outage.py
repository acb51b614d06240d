"""How the endpoint's state changes with a failed push, a restart and a new network, and when the next push is due."""

from __future__ import annotations

from hashlib import blake2b

from sessiond.config import Token
from sessiond.endpoint.backoff import STEPS, next_wait
from sessiond.errors import EndpointError, Refused, Unreachable
from sessiond.spool.health import EndpointHealth

BOOT_ID = "/proc/sys/kernel/random/boot_id"
LARGEST_CA_FILE = 4 << 20
"""Bytes of `endpoint.ca_file` that are compared; a system's complete list of authorities has a quarter of a MiB."""


def after_failure(old: EndpointHealth, error: EndpointError, now_ms: int) -> EndpointHealth:
    """Return the state after a failed push, with the time of the next one.

    The wait grows with the number of consecutive failures of the same kind: without an answer, or with a wrong one.
    So after two days without a network, a login page is retried within seconds.
    """
    answered = not isinstance(error, Unreachable)
    began = old.rejected_since_ms if answered else None
    if answered and (began is None or began > now_ms):  # the first one; or the wall clock was set back
        began = now_ms
    rejections = old.rejections + 1 if answered else 0
    lasted = 0.0 if began is None else (now_ms - began) / 1000
    wait = next_wait(error, old.failures + 1, rejections, lasted)
    return EndpointHealth(
        url=old.url,
        archive=old.archive,
        last_ack_ms=old.last_ack_ms,
        latency_ms=old.latency_ms,
        failing_since_ms=old.failing_since_ms or now_ms,
        failures=old.failures + 1,
        kind="unreachable" if not answered else "refused" if isinstance(error, Refused) else "wrong",
        reason=str(error),
        hint=error.hint,
        next_attempt_ms=now_ms + int(wait * 1000),
        rejections=rejections,
        rejected_since_ms=began,
        paused=answered and wait > 2 * STEPS[-1],
    )


def after_success(old: EndpointHealth, last_ack_ms: int | None, latency_ms: int) -> EndpointHealth:
    """Return the state after a push that the endpoint answered as it should."""
    return EndpointHealth(
        url=old.url, archive=old.archive, last_ack_ms=last_ack_ms, latency_ms=latency_ms, waits=old.waits
    )


def after_change(old: EndpointHealth) -> EndpointHealth:
    """Return the state after a change of the token, the configuration or the machine: the next push is due now.

    What failed before may succeed now, so the waits begin with the shortest one again.
    """
    if not old.failures:
        return old.replace(next_attempt_ms=None)
    return old.replace(next_attempt_ms=None, failures=1, rejections=0, rejected_since_ms=None, paused=False)


def after_network_change(old: EndpointHealth, tried_ms: int, now_ms: int) -> EndpointHealth:
    """Return the state after a change of the network: the next push is due at once if the last one failed.

    A wrong answer came over a network that worked. It may have been a login page, so it is retried too, but only after
    the shortest wait: container networks come and go every second, and a refused token stays refused.
    """
    if not old.failures:
        return old
    if old.kind == "unreachable":
        return old.replace(next_attempt_ms=None)
    due = max(now_ms, tried_ms + int(STEPS[0] * 1000))
    if old.next_attempt_ms is not None and old.next_attempt_ms <= due:
        return old
    return old.replace(next_attempt_ms=due, rejections=0, rejected_since_ms=None, paused=False)


def at_start(old: EndpointHealth, setup: str, stored: str | None) -> EndpointHealth:
    """Return the state with which a new process begins, from what the last process stored.

    A wait continues after a restart. It ends at once if the token, the certificates or the proxy changed, or the
    machine was booted (`setup` differs from the `stored` digest). A pause that an older version stored after one wrong
    answer, without counting rejections, is dropped too.
    """
    changed = stored is not None and stored != setup
    unfounded = old.kind in ("refused", "wrong") and not old.rejections
    return after_change(old) if changed or unfounded else old


def setup_digest(url: str, token: Token | None, ca_file: str, key: bytes) -> str:
    """Return a keyed digest of everything else that a push depends on: token, certificates, proxy, boot.

    It is stored, so that the next start detects a change of any of these. The key never leaves this machine: without
    it, a copy of the digest can't be used to test guesses of the token.
    """
    from sessiond.endpoint.transport import find_proxy  # late: `sync` imports this module, and may need no network

    proxy = find_proxy(url) or ""
    parts = (url, token.reveal() if token else "", proxy, _boot_id())
    digest = blake2b(digest_size=16, key=key[:64])
    for part in (*(part.encode("utf-8", "surrogateescape") for part in parts), authorities(ca_file)):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.hexdigest()


def authorities(ca_file: str) -> bytes:
    """Return the content of `endpoint.ca_file`; b"" if it is not set or can't be read."""
    try:
        with open(ca_file, "rb") as file:
            return file.read(LARGEST_CA_FILE)
    except OSError:
        return b""


def _boot_id() -> str:
    """Return an id of the boot, "" if the system has none. After a boot the network may be another one."""
    try:
        with open(BOOT_ID) as file:
            return file.read().strip()
    except OSError:
        return ""
