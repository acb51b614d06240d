"""The configuration as frozen types: what the user may set, its defaults and its bounds."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

TEN_YEARS = 315_360_000

Seconds = Annotated[
    float,
    msgspec.Meta(
        gt=0,
        le=TEN_YEARS,
        description='seconds above 0, or text like "90s", "30m", "1h30m", "2d"',
        extra={"unit": "seconds"},
    ),
]
Percent = Annotated[
    float, msgspec.Meta(gt=0, le=100, description='text like "50%", at the most "100%"', extra={"unit": "percent"})
]
Rate = Annotated[
    int,
    msgspec.Meta(
        ge=0, le=1 << 50, description='bytes a second, or text like "1MB/s"; 0 is no limit', extra={"unit": "rate"}
    ),
]
Backfill = Annotated[
    str,
    msgspec.Meta(
        description='"all", "none", or an age as text like "90d"',
        extra={"unit": "backfill"},
    ),
]
FilePath = Annotated[
    str, msgspec.Meta(description='a path as text that begins with "/" or "~/"', extra={"unit": "path"})
]
Glob = Annotated[
    str,
    msgspec.Meta(
        min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$", description='a glob like "~/work/*" or the name of a directory'
    ),
]
SecretsFrom = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?:env:[^\x00-\x1f=]+|(?:~?/)[^\x00-\x1f]+)$",
        description='a path that begins with "/" or "~/", or "env:" and a glob of names: "env:*_TOKEN"',
        extra={"unit": "secret"},
    ),
]
ValueHash = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$", description="32 hex digits, as `sessiond redact scan` prints them")
]
Name = Annotated[
    str,
    msgspec.Meta(
        max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$", description="text of at most 200 characters on one line"
    ),
]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where sessions go."""

    url: str = ""
    """Empty: the built-in archive, an endpoint of our own on loopback with its data beside the spool."""
    token_file: FilePath = ""
    """A file of mode 0600 that holds the token; SESSIOND_TOKEN and systemd credentials come before it."""
    allow_insecure_http: bool = False
    """Plain http to another host than loopback sends the token and all transcripts readable; off unless asked."""
    timeout: Seconds = 30.0
    """Seconds that one request may take in all."""
    ca_file: FilePath = ""
    """A PEM bundle to trust instead of the system's."""


class Backlog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How what was there before is caught up with. Live changes wait for none of it."""

    max_cpu: Percent = 100.0
    """Percent of one core that reading it may take, on average."""
    max_upload: Rate = 0
    """Bytes a second, on the wire, that pushing it may take; 0: all there is."""
    on_battery: Literal["pause", "go on"] = "pause"
    """Whether reading and pushing it wait while the machine runs on its battery."""
    on_metered: Literal["pause", "go on"] = "pause"
    """Whether pushing it waits while the network is a metered one."""


class Outbox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may wait on disk."""

    max_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=1 << 20,
            le=1 << 50,
            description='bytes, 1 MiB at the least, or text like "512 MiB" or "2 GB"',
            extra={"unit": "bytes"},
        ),
    ] = 512 << 20
    """Transcript bytes (compressed) that wait for the endpoint; past that, transcripts wait in their own files."""


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json", "journal"] = "auto"
    file: bool = True
    """Keep a rotated file of JSON lines in the state directory, five of 5 MB, where no journal keeps them."""


class Redaction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is a secret, and what only looks like one."""

    rules: list[FilePath] = []
    """Files of further rules, in the TOML fields of gitleaks; a rule replaces ours of the same id."""
    secrets_from: list[SecretsFrom] = []
    """Where values stand that are secret wherever they appear; they are held in memory only."""
    allow_rules: list[Name] = []
    """Ids of rules that are not applied."""
    allow_hashes: list[ValueHash] = []
    """Hashes of values that are no secrets, as `sessiond redact scan` prints them."""
    allow_paths: list[Glob] = []
    """Globs of transcripts in which nothing is masked."""


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tool."""

    enabled: bool = True
    transcripts: bool = True
    """False: only the records of its sessions are kept and pushed."""
    roots: list[FilePath] = []
    """Further directories to look into, beside the tool's own; they are laid out like the tool's own."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that the user may set. Paths are absolute, durations are seconds, sizes are bytes."""

    state_dir: FilePath = ""
    """Where the spool lies; empty: the platform's place for state."""
    machine_id: Name = ""
    """Empty: the hostname at the first start, kept from then on."""
    idle_after: Seconds = 1800.0
    """Seconds without a change after which a session counts as ended."""
    rescan: Seconds = 60.0
    """Seconds between two looks at every root; longer where a look is expensive."""
    redact: Literal["mask", "hash", "off"] = "mask"
    """How secrets are covered before anything is stored: by stars, by a keyed hash, or not at all."""
    exclude: list[Glob] = []
    """Globs of working directories whose sessions are none of sessiond's business."""
    backfill: Backfill = "all"
    """How old a session may be that was there before the first start; see `units.parse_backfill`."""
    transcripts: bool = True
    """False: only the records of sessions are kept and pushed, of no tool the transcript."""
    hash_paths: bool = False
    """Replace the paths in records by keyed hashes."""
    endpoint: Endpoint = Endpoint()
    redaction: Redaction = Redaction()
    backlog: Backlog = Backlog()
    outbox: Outbox = Outbox()
    log: Log = Log()
    sources: dict[str, SourceSettings] = {}
    """By the tool's name: "claude-code"."""
