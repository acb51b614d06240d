"""A user's directories, as far as the roots of sources depend on them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from sessiond.sources.damaged import to_utf8

COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*(?s:.)*?\*/')
LAST_COMMA = re.compile(r'("(?:\\.|[^"\\\n])*")|,(?=\s*[}\]])')
SETTINGS_LIMIT = 1 << 20


class UserDirs(msgspec.Struct, frozen=True, kw_only=True):
    """The directories of one user on one machine."""

    home: str
    environ: Mapping[str, str]
    platform: str = sys.platform

    @property
    def config(self) -> str:
        """Application settings: ~/.config on Linux, ~/Library/Application Support on macOS, %APPDATA% on Windows."""
        if self.platform == "darwin":
            return f"{self.home}/Library/Application Support"
        if self.platform == "win32":
            return self.environ.get("APPDATA") or f"{self.home}/AppData/Roaming"
        return self.from_variable("XDG_CONFIG_HOME") or f"{self.home}/.config"

    @property
    def share(self) -> str:
        """The XDG data directory. Tools that follow XDG on every platform use it on macOS too."""
        return self.from_variable("XDG_DATA_HOME") or f"{self.home}/.local/share"

    @property
    def state(self) -> str:
        """The XDG state directory."""
        return self.from_variable("XDG_STATE_HOME") or f"{self.home}/.local/state"

    @property
    def data(self) -> str:
        """Application data by the rules of the platform: `share`, on macOS `config`, on Windows %LOCALAPPDATA%."""
        if self.platform == "win32":
            return self.environ.get("LOCALAPPDATA") or f"{self.home}/AppData/Local"
        return self.config if self.platform == "darwin" else self.share

    def from_variable(self, variable: str, suffix: str = "") -> str:
        """Return the absolute directory in an environment variable plus `suffix`, or "" if it is unset or relative."""
        path = self.absolute(self.environ.get(variable, ""))
        return path and path + suffix

    def absolute(self, path: str) -> str:
        """Expand ~ in a path from a tool's settings.

        Return "" for a relative path: it depends on the directory in which the tool was started, which is unknown.
        Also for a path with a NUL character: the system's functions raise ValueError for it.
        """
        if not path:  # hundreds of unset variables
            return ""
        path = path.rstrip("/")
        path = self.home + path[1:] if path.startswith("~/") else path
        return path if os.path.isabs(path) and "\0" not in path else ""

    def with_override(self, variable: str, *defaults: str) -> list[str]:
        """Return a tool's directories: the one in its variable, then the defaults.

        The defaults stay in the list because older sessions are still there after a user sets the variable.
        """
        return unique_paths(self.from_variable(variable), *defaults)

    @classmethod
    def current(cls, environ: Mapping[str, str]) -> UserDirs:
        """Return the directories of the user who runs this process."""
        return cls(home=environ.get("HOME") or os.path.expanduser("~"), environ=environ)


def unique_paths(*paths: str) -> list[str]:
    """Return the paths without duplicates and empty strings, in order."""
    return list(dict.fromkeys(filter(None, paths)))


def path_from_uri(path: str | None) -> str | None:
    """Return a path that may be written as a percent-encoded file:// URI; None if it is empty."""
    if path and path.startswith("file://"):
        path = unquote(path.removeprefix("file://"))
    return path or None


def read_small_file(path: str, limit: int = SETTINGS_LIMIT) -> bytes:
    """Read a file in which a tool keeps settings or a list of projects. Return b"" if it is missing or a link."""
    try:
        with open(
            path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
        ) as stream:
            return to_utf8(stream.read(limit) or b"")  # None for a pipe that another process has open
    except OSError:
        return b""


def read_settings(path: str) -> dict[str, object]:
    """Read a tool's settings: a JSON object that may contain comments and last commas. Return {} if it can't be read.

    Links are followed: users keep the settings of tools in a repository and link to them.
    """
    try:
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            source = to_utf8(file.read(SETTINGS_LIMIT) or b"").decode()
        text = COMMENT.sub(lambda match: match[1] or "", source)
        text = LAST_COMMA.sub(lambda match: match[1] or "", text)
        return msgspec.json.decode(text, type=dict[str, object])
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        return {}
