"""The configuration as frozen types, with defaults and bounds."""

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
    float, msgspec.Meta(gt=0, le=100, description='a percentage like "50%", at most "100%"', extra={"unit": "percent"})
]
Rate = Annotated[
    int,
    msgspec.Meta(
        ge=0, le=1 << 50, description='bytes per second, or text like "1MB/s"; 0 means no limit', extra={"unit": "rate"}
    ),
]
Backfill = Annotated[
    str,
    msgspec.Meta(
        description='"all", "none", or an age as text like "90d"',
        extra={"unit": "backfill"},
    ),
]
FilePath = Annotated[str, msgspec.Meta(description='a path that starts with "/" or "~/"', extra={"unit": "path"})]
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
        description='a path that starts with "/" or "~/", or "env:" and a glob of variable names: "env:*_TOKEN"',
        extra={"unit": "secret"},
    ),
]
ValueHash = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$", description="32 hex digits, as `sessiond redact scan` prints them")
]
Name = Annotated[
    str,
    msgspec.Meta(
        max_length=200,
        pattern=r"^(?:(?!(?:[^/]*/)*\.{0,2}(?:/|$))[^\x00-\x1f\x7f]+)?\Z",
        description='text of at most 200 characters on one line, without an empty, "." or ".." segment between slashes',
    ),
]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The endpoint that sessions are pushed to."""

    url: str = ""
    """Empty: the built-in archive, an endpoint on loopback that keeps its data in the state directory."""
    token_file: FilePath = ""
    """A file of mode 0600 with the token; SESSIOND_TOKEN and systemd credentials override it."""
    allow_insecure_http: bool = False
    """Allow plain http to hosts other than loopback, which sends the token and all transcripts unencrypted."""
    timeout: Seconds = 30.0
    """Total time limit of one request, in seconds."""
    ca_file: FilePath = ""
    """A PEM bundle to trust instead of the system's."""


class Backlog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits for older sessions. Live changes are not limited."""

    max_cpu: Percent = 100.0
    """Average share of one core for reading the backlog, in percent."""
    max_upload: Rate = 0
    """Upload rate for the backlog in bytes per second on the wire; 0 means no limit."""
    on_battery: Literal["pause", "continue"] = "pause"
    """Whether to pause reading and pushing the backlog on battery."""
    on_metered: Literal["pause", "continue"] = "pause"
    """Whether to pause pushing the backlog on a metered network."""


class Outbox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the outbox."""

    max_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=1 << 20,
            le=1 << 50,
            description='bytes, at least 1 MiB, or text like "512 MiB" or "2 GB"',
            extra={"unit": "bytes"},
        ),
    ] = 512 << 20
    """Compressed transcript bytes in the outbox. When it is full, transcripts stay in the tools' files until later."""


class ArchiveSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the built-in archive."""

    max_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=0, le=1 << 50, description='bytes, or text like "50 GB"; 0 for no limit', extra={"unit": "bytes"}
        ),
    ] = 0
    """Size of the archive's file. When it is reached, nothing is dropped: new transcripts wait in the tools' files."""
    keep: Backfill = "all"
    """Age from which sessions are removed from the archive, if a configured endpoint has them too. While the archive is
    the endpoint, nothing is removed."""


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Level, format and file of the log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json", "journal"] = "auto"
    file: bool = True
    """Write a rotated file of JSON lines to the state directory (five of 5 MB), unless a journal keeps the log."""


class Redaction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Additional secrets and rules, and exceptions."""

    rules: list[FilePath] = []
    """Files with additional rules in the format of gitleaks; a rule replaces the built-in one with the same id."""
    secrets_from: list[SecretsFrom] = []
    """Sources of values that are always masked; the values are kept only in memory."""
    allow_rules: list[Name] = []
    """Ids of rules to disable."""
    allow_hashes: list[ValueHash] = []
    """Hashes of values that are not secrets, as `sessiond redact scan` prints them."""
    allow_paths: list[Glob] = []
    """Globs of transcripts in which nothing is masked."""


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tool."""

    enabled: bool = True
    transcripts: bool = True
    """False: capture only the records of its sessions."""
    side_files: bool = True
    """False: capture no side files of its sessions."""
    roots: list[FilePath] = []
    """Additional directories with the layout of the tool's own directory."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All keys. Paths are absolute, durations are seconds, sizes are bytes."""

    state_dir: FilePath = ""
    """The state directory; empty: the default of the platform."""
    machine_id: Name = ""
    """Empty: the hostname at the first start, which is then kept."""
    idle_after: Seconds = 1800.0
    """Seconds without a change after which a session counts as ended."""
    rescan: Seconds = 60.0
    """Seconds between two scans of all roots; longer if a scan is expensive."""
    redact: Literal["mask", "hash", "off"] = "mask"
    """How secrets are masked before anything is stored: stars, keyed hashes, or not at all."""
    exclude: list[Glob] = []
    """Globs of working directories whose sessions are not captured."""
    backfill: Backfill = "all"
    """Largest age of sessions from before the first start; see `units.parse_backfill`."""
    transcripts: bool = True
    """False: capture only the records of sessions, no transcripts."""
    side_files: bool = True
    """False: capture no side files: full outputs, pasted images and other files that belong to a session."""
    side_file_max_bytes: Annotated[
        int,
        msgspec.Meta(
            ge=1 << 10, le=1 << 40, description='bytes, at least 1 KiB, or text like "64 MiB"', extra={"unit": "bytes"}
        ),
    ] = 64 << 20
    """How many bytes of a side file are captured at most."""
    hash_paths: bool = False
    """Replace the paths in records by keyed hashes."""
    endpoint: Endpoint = Endpoint()
    redaction: Redaction = Redaction()
    backlog: Backlog = Backlog()
    outbox: Outbox = Outbox()
    archive: ArchiveSettings = ArchiveSettings()
    log: Log = Log()
    sources: dict[str, SourceSettings] = {}
    """The sources by the name of the tool, such as "claude-code"."""
