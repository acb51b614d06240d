"""Where the platform has a user's configuration and state."""

from __future__ import annotations

import os
import sys


def config_file() -> str:
    """Name the platform's place for the user's config: `~/.config/sessiond/config.toml`; it need not exist."""
    return os.path.join(_place("XDG_CONFIG_HOME", "~/.config"), "config.toml")


def state_directory() -> str:
    """Name the platform's place for the state: `~/.local/state/sessiond`."""
    return _place("XDG_STATE_HOME", "~/.local/state")


def part_files(user_file: str) -> list[str]:
    """List the parts in `config.d` beside the user's config, in the order in which later ones win. Raises: OSError."""
    directory = os.path.join(os.path.dirname(user_file), "config.d")
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    return [os.path.join(directory, name) for name in names if name.endswith(".toml") and not name.startswith(".")]


def _place(variable: str, default: str) -> str:
    if sys.platform == "linux":
        # What platformdirs says too, but its import takes a seventh of the 100 ms that `status` has.
        base = os.environ.get(variable, "")
        return os.path.join(base if os.path.isabs(base) else os.path.expanduser(default), "sessiond")
    import platformdirs

    if variable == "XDG_STATE_HOME":
        return platformdirs.user_state_dir("sessiond", appauthor=False)
    return platformdirs.user_config_dir("sessiond", appauthor=False)
