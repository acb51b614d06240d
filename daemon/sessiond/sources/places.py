"""Where a user's directories are, as far as the roots of sources depend on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import msgspec


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """The directories of a user on a machine, as far as roots depend on them."""

    home: str
    environ: Mapping[str, str]
    platform: str = sys.platform

    @property
    def config(self) -> str:
        """Where applications keep their data: ~/.config on Linux, ~/Library/Application Support on macOS."""
        if self.platform == "darwin":
            return f"{self.home}/Library/Application Support"
        if self.platform == "win32":
            return self.environ.get("APPDATA") or f"{self.home}/AppData/Roaming"
        return self.environ.get("XDG_CONFIG_HOME") or f"{self.home}/.config"

    @property
    def share(self) -> str:
        """Where tools that follow XDG keep their data; the same on macOS for those that do not ask the system."""
        return self.environ.get("XDG_DATA_HOME") or f"{self.home}/.local/share"

    @classmethod
    def here(cls, environ: Mapping[str, str]) -> Places:
        """Describe this process's user."""
        return cls(home=environ.get("HOME") or os.path.expanduser("~"), environ=environ)


def peek(path: str, largest: int = 1 << 20) -> bytes:
    """Read what a tool keeps about itself: a list of projects, a setting; nothing of what is not there or a link."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            return stream.read(largest)
    except OSError:
        return b""
