"""The directories of the user's configuration and state, and the environment variables that are settings."""

from __future__ import annotations

import os
import sys
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "SESSIOND_"
SPECIAL = frozenset({"SESSIOND_TOKEN", "SESSIOND_CONFIG"})
"""Variables that are not settings: the token, and the path of the config."""


def config_file() -> str:
    """Return the platform's path of the user's config: `~/.config/sessiond/config.toml`; it need not exist."""
    return os.path.join(_user_directory("XDG_CONFIG_HOME", "~/.config"), "config.toml")


def state_directory() -> str:
    """Return the platform's directory for the state: `~/.local/state/sessiond`."""
    return _user_directory("XDG_STATE_HOME", "~/.local/state")


def part_files(user_file: str) -> list[str]:
    """Return the files in `config.d` beside the user's config; later ones take precedence. Raises: OSError."""
    directory = os.path.join(os.path.dirname(user_file), "config.d")
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    return [os.path.join(directory, name) for name in names if name.endswith(".toml") and not name.startswith(".")]


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are settings: `SESSIOND_*` except the token and the path of the config."""
    return {name: environ[name] for name in sorted(environ) if name.startswith(PREFIX) and name not in SPECIAL}


def checksums(settings: Mapping[str, str]) -> dict[str, int]:
    """Return a checksum of each text."""
    return {name: crc32(os.fsencode(text)) for name, text in settings.items()}


def _user_directory(variable: str, default: str) -> str:
    if sys.platform == "linux":
        # What platformdirs says too, but its import takes a seventh of the 100 ms that `status` has.
        base = os.environ.get(variable, "")
        return os.path.join(base if os.path.isabs(base) else os.path.expanduser(default), "sessiond")
    import platformdirs

    if variable == "XDG_STATE_HOME":
        return platformdirs.user_state_dir("sessiond", appauthor=False)
    return platformdirs.user_config_dir("sessiond", appauthor=False)
