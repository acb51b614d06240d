"""What is examined, and what is found."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import msgspec

from sessiond.config import Loaded


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    INFO = "info"
    """Worth knowing; nothing that is promised is broken by it."""
    ERROR = "error"


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """The installation: its configuration as it could be read, and where it was read from."""

    loaded: Loaded
    directory: str
    """Of the state."""
    config_file: str
    named: str | None
    """What `--config` or SESSIOND_CONFIG named."""
    environ: Mapping[str, str]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `fix` is what to do; with `repair` sessiond can do it itself."""

    check: str
    severity: Severity
    what: str
    fix: str | None = None
    repair: Literal["chmod", "install"] | None = None
    path: str = ""
    mode: int = 0
    """For `chmod`: of which file, to what."""
