"""Types of the checks: the installation and the findings."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import msgspec

from sessiond.config import Loaded


class Severity(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    INFO = "info"
    """Worth knowing; sessions are captured and pushed all the same."""
    ERROR = "error"


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """The installation to check: its configuration and where that was read from."""

    loaded: Loaded
    directory: str
    """The state directory."""
    config_file: str
    named: str | None
    """The file of `--config` or SESSIOND_CONFIG, if given."""
    environ: Mapping[str, str]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check. `fix` is what the user can do; `repair` is set if `repair()` can do it."""

    check: str
    severity: Severity
    what: str
    fix: str | None = None
    repair: Literal["chmod", "install"] | None = None
    path: str = ""
    mode: int = 0
    """For `chmod`: the new mode of `path`."""
