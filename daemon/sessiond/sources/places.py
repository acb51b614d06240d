"""Where a user's directories are, as far as the roots of sources depend on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from urllib.parse import unquote

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
        return self.given("XDG_CONFIG_HOME") or f"{self.home}/.config"

    @property
    def share(self) -> str:
        """Where tools that follow XDG keep their data; the same on macOS for those that do not ask the system."""
        return self.given("XDG_DATA_HOME") or f"{self.home}/.local/share"

    @property
    def data(self) -> str:
        """Where tools that ask the system keep their data: as `share` on Linux, %LOCALAPPDATA% on Windows."""
        if self.platform == "win32":
            return self.environ.get("LOCALAPPDATA") or f"{self.home}/AppData/Local"
        return self.config if self.platform == "darwin" else self.share

    def given(self, variable: str, below: str = "") -> str:
        """Tell which directory a tool's environment variable names, or what is `below` it; "" where it names none."""
        path = self.whole(self.environ.get(variable, ""))
        return path and path + below

    def whole(self, path: str) -> str:
        """Take a directory out of a tool's settings; "" for a relative one: nobody knows where the tool was started."""
        path = path.rstrip("/")
        path = self.home + path[1:] if path.startswith("~/") else path
        return path if os.path.isabs(path) else ""

    def homes(self, variable: str, *usual: str) -> list[str]:
        """Name a tool's directories: where its variable says, and the usual ones too, for what is there stays there."""
        return distinct(self.given(variable), *usual)

    @classmethod
    def here(cls, environ: Mapping[str, str]) -> Places:
        """Describe this process's user."""
        return cls(home=environ.get("HOME") or os.path.expanduser("~"), environ=environ)


def distinct(*paths: str) -> list[str]:
    """Name each path once, in order; "" is none."""
    return list(dict.fromkeys(filter(None, paths)))


def path_of(place: str | None) -> str | None:
    """Read a path that may be written as a file:// URI, percent-encoded; None for an empty one."""
    if place and place.startswith("file://"):
        place = unquote(place.removeprefix("file://"))
    return place or None


def peek(path: str, largest: int = 1 << 20) -> bytes:
    """Read what a tool keeps about itself: a list of projects, a setting; nothing of what is not there or a link."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            return stream.read(largest)
    except OSError:
        return b""
