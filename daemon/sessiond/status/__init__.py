"""Status: how the daemon, its sessions and its endpoint are, read from disk, with or without a running daemon.

It never looks complete while something is undiscovered or unread: what only a daemon knows (which files
there are, whether all were read) counts only from the one that runs now. Nothing slow is imported here and nothing is
asked over a network: `sessiond status` has 100 ms.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib.machinery import PathFinder

import msgspec

from sessiond import pause, state
from sessiond.config import Config, config_file, load, state_dir
from sessiond.errors import ConfigError, SpoolDamaged, SpoolTooNew, StateError
from sessiond.spool import NAME, Spool
from sessiond.spool import health as health_room
from sessiond.spool.health import CaptureHealth, EndpointHealth
from sessiond.spool.overview import ToolCount, Totals, Trouble, Waiting
from sessiond.status.advice import advise
from sessiond.status.model import (
    Advice,
    ConfigStatus,
    DaemonStatus,
    Discovery,
    Running,
    Shape,
    SpoolStatus,
    Status,
    ToolStatus,
)
from sessiond.status.progress import Progress, measure

__all__ = [
    "Advice",
    "ConfigStatus",
    "DaemonStatus",
    "Discovery",
    "Progress",
    "Running",
    "Shape",
    "SpoolStatus",
    "Status",
    "ToolStatus",
    "read_status",
]

PATIENCE = 0.03
"""Seconds to wait for a spool that is locked; in WAL mode only a recovery locks readers out."""
TROUBLES = 3


class _Held(msgspec.Struct, kw_only=True):
    """What the spool says; members stay None from where it could not be read any more."""

    shape: SpoolStatus
    clean: bool = False
    refused: str | None = None
    capture: CaptureHealth = CaptureHealth()
    endpoint: EndpointHealth = EndpointHealth()
    totals: Totals | None = None
    outbox: Waiting | None = None
    counts: list[ToolCount] = []
    troubles: list[Trouble] = []
    redactions: dict[str, int] = {}


def read_status(file: str | None, environ: Mapping[str, str], *, now_ms: int | None = None) -> Status:
    """Read how everything is; never fails for the state that anything is in.

    `file` and `environ` say where the configuration is, as for `config.load`.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    config, configured = _config(file, environ)
    directory = state_dir(config)
    holder, reason = _holder(directory)
    held = _read_spool(directory, reason)
    configured = msgspec.structs.replace(configured, refused=held.refused if holder else None)
    made = Status(
        now_ms=now_ms,
        healthy=False,
        daemon=_daemon(holder, held),
        machine_id=config.machine_id or held.capture.machine_id or None,
        state_dir=directory,
        disk_bytes=_disk_bytes(directory),
        config=configured,
        spool=held.shape,
        discovered=_discovery(holder, held.capture),
        totals=held.totals,
        outbox=held.outbox,
        endpoint=_endpoint(config, holder, held.endpoint),
        progress=_progress(holder, held),
        tools=_tools(held),
        redactions=held.redactions,
        scanner=_scanner(config),
        troubles=held.troubles,
        advice=[],
        paused=pause.read(directory, now_ms),
    )
    advice = advise(made)
    running = made.daemon.state is Running.RUNNING
    healthy = running and not any(each.degraded for each in advice)
    return msgspec.structs.replace(made, advice=advice, healthy=healthy)


def _scanner(config: Config) -> str:
    """Tell what looks for secrets, without loading it: that would take a tenth of a second."""
    if config.redact == "off":
        return "off"
    return "re" if PathFinder.find_spec("hyperscan") is None else "hyperscan"


def _config(file: str | None, environ: Mapping[str, str]) -> tuple[Config, ConfigStatus]:
    """Read the configuration; of an invalid one take where the state lies and defaults for the rest."""
    try:
        loaded = load(file, environ)
        return loaded.config, ConfigStatus(files=loaded.files)
    except ConfigError as error:
        wrong = ConfigStatus(error=str(error), hint=error.hint)
    return Config(state_dir=_state_dir_of(file, environ)), wrong


def _state_dir_of(file: str | None, environ: Mapping[str, str]) -> str:
    """Find the state directory in a configuration that is wrong elsewhere; "" where that can't be."""
    import tomllib

    named = environ.get("SESSIOND_STATE_DIR")
    if named is None:
        try:
            with open(file or environ.get("SESSIOND_CONFIG") or config_file(), "rb") as stream:
                named = tomllib.load(stream).get("state_dir")
        except (OSError, ValueError):
            return ""
    try:
        return load(os.devnull, {**_home(environ), "SESSIOND_STATE_DIR": str(named or "")}).config.state_dir
    except ConfigError:
        return ""


def _home(environ: Mapping[str, str]) -> dict[str, str]:
    return {"HOME": environ["HOME"]} if "HOME" in environ else {}


def _holder(directory: str) -> tuple[state.Holder | None, str | None]:
    try:
        return state.running(directory), None
    except OSError as error:
        return None, (error.strerror or str(error)).lower()


def _read_spool(directory: str, unreadable: str | None) -> _Held:
    """Read as much as can be read."""
    if not os.path.lexists(os.path.join(directory, NAME)):
        if unreadable is not None:
            return _Held(shape=SpoolStatus(state=Shape.UNREADABLE, reason=f"{directory}: {unreadable}"))
        return _Held(shape=SpoolStatus(state=Shape.MISSING))
    held = _Held(shape=SpoolStatus(state=Shape.FINE))
    try:
        spool = Spool(directory, readonly=True, patience=PATIENCE)
        try:
            _fill(held, spool)
        finally:
            spool.close()
    except SpoolTooNew as error:
        held.shape = SpoolStatus(state=Shape.TOO_NEW, reason=str(error), hint=error.hint)
    except SpoolDamaged as error:
        held.shape = SpoolStatus(state=Shape.DAMAGED, reason=str(error))
    except StateError as error:
        held.shape = SpoolStatus(state=Shape.UNREADABLE, reason=str(error), hint=error.hint)
    except msgspec.MsgspecError as error:
        held.shape = SpoolStatus(state=Shape.UNREADABLE, reason=f"the spool holds something unexpected: {error}")
    return held


def _fill(held: _Held, spool: Spool) -> None:
    with spool.snapshot():
        rebuilt = spool.meta(health_room.REBUILT)
        held.shape = SpoolStatus(state=Shape.FINE, rebuilt_ms=int(rebuilt) if rebuilt else None)
        held.clean = spool.meta(health_room.CLEAN) is not None
        held.refused = spool.meta(health_room.CONFIG)
        held.capture = health_room.read_capture(spool)
        held.endpoint = health_room.read_endpoint(spool)
        held.totals = spool.overview.totals()
        held.outbox = spool.overview.waiting()
        held.counts = spool.overview.tools()
        held.redactions = spool.overview.redactions()
        if any(count.troubled for count in held.counts):
            held.troubles = spool.overview.troubles(TROUBLES)


def _daemon(holder: state.Holder | None, held: _Held) -> DaemonStatus:
    if holder is not None:
        return DaemonStatus(
            state=Running.RUNNING,
            pid=holder.pid or None,
            since_ms=holder.since_ms or None,
            service=holder.service,
            stopped=holder.stopped,
        )
    if held.shape.state is Shape.MISSING:
        return DaemonStatus(state=Running.NEVER)
    # A spool that can't be read does not tell how its daemon ended.
    died = held.shape.state is Shape.FINE and not held.clean
    return DaemonStatus(state=Running.DIED if died else Running.STOPPED)


def _discovery(holder: state.Holder | None, capture: CaptureHealth) -> Discovery:
    if holder is not None and capture.pid != holder.pid:
        return Discovery(current=True)  # the daemon starts and has not looked yet; what another one saw is past
    if capture.discovered is None:
        return Discovery(current=holder is not None)
    files, unread = sum(capture.discovered.values()), capture.backlog + capture.torn
    return Discovery(
        files=files,
        unread=unread,
        left_out=capture.left_out,
        left_out_bytes=capture.left_out_bytes,
        current=holder is not None,
    )


def _progress(holder: state.Holder | None, held: _Held) -> Progress | None:
    if holder is None or held.capture.pid != holder.pid or held.totals is None or held.outbox is None:
        return None
    return measure(held.capture, held.endpoint, held.totals, held.outbox)


def _endpoint(config: Config, holder: state.Holder | None, known: EndpointHealth) -> EndpointHealth:
    """Tell the endpoint that the daemon pushes to; of one that does not run, the one that it would push to."""
    same = known.archive if not config.endpoint.url else known.url == config.endpoint.url
    if same or (holder is not None and known.url):
        return known  # of a daemon that runs always: it has an environment of its own
    return EndpointHealth(url=config.endpoint.url, archive=not config.endpoint.url)


def _tools(held: _Held) -> list[ToolStatus]:
    """List what is captured and what a daemon watched; before the first one nobody has looked for tools."""
    roots = held.capture.roots
    counts = {count.tool: count for count in held.counts}
    files = held.capture.discovered
    tools = sorted({root.tool for root in roots} | counts.keys())
    return [
        ToolStatus(
            count=counts.get(tool, ToolCount(tool=tool)),
            files=None if files is None else files.get(tool, 0),
            roots=[root for root in roots if root.tool == tool],
        )
        for tool in tools
    ]


def _disk_bytes(directory: str) -> int:
    """Add up what the state directory takes. A pin of a file that its tool still has costs nothing."""
    total, pending = 0, [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                        continue
                    found = entry.stat(follow_symlinks=False)
                    total += 0 if found.st_nlink > 1 else found.st_blocks * 512
        except OSError:
            continue
    return total
