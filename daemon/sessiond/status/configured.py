"""Find the active configuration for `status`, without parsing one that the daemon has already parsed.

Parsing and validating a configuration takes longer than the rest of `status`. If its files are unchanged since the
daemon loaded them, the values that the daemon wrote to the spool are used; otherwise the files are parsed here.
"""

from __future__ import annotations

import os
from zlib import crc32

from sessiond import __version__
from sessiond.directories import checksums, config_file, part_files, state_directory, variables
from sessiond.errors import ConfigError
from sessiond.frozen_record import FrozenRecord
from sessiond.memory import hide_modules
from sessiond.spool.health import ConfigHealth
from sessiond.status.model import ConfigStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FILE = 1 << 20
"""Bytes; a larger file is not a configuration."""


class Configured(FrozenRecord):
    """The values of a configuration that `status` needs."""

    directory: str
    """The state directory."""
    url: str = ""
    machine_id: str = ""
    redact: str = "mask"
    status: ConfigStatus = ConfigStatus()


class Origins:
    """The files and variables of a configuration, to compare with those that a daemon has loaded."""

    def __init__(self, file: str | None, environ: Mapping[str, str]) -> None:
        """`file` and `environ` locate the configuration, as for `config.load`."""
        self._texts: dict[str, bytes] = {}
        self._variables = variables(environ)
        self._home = environ.get("HOME", "")
        self._whole = True
        named = file or environ.get("SESSIOND_CONFIG")
        try:
            self._read(os.path.abspath(named or config_file()), must_be=bool(named))
        except OSError:
            self._whole = False  # `config.load` reports the error

    def _read(self, user_file: str, *, must_be: bool) -> None:
        for path in (user_file, *part_files(user_file)):
            if path == user_file and not must_be and not os.path.lexists(path):
                continue
            with open(path, "rb") as stream:
                self._texts[path] = stream.read(MAX_FILE)

    def directory(self) -> str | None:
        """Guess the state directory without a TOML parser; None if the files can't be read.

        A wrong guess is harmless: no other directory has checksums of exactly these files.
        """
        found = self._variables.get("SESSIOND_STATE_DIR", "")
        for text in () if found else self._texts.values():
            for line in text.split(b"\n"):
                key, _, value = line.partition(b"=")
                if key.strip() == b"state_dir":
                    found = os.fsdecode(value.partition(b"#")[0].strip().strip(b"\"'"))
        if found.startswith("~/"):
            found = self._home + found[1:]
        usable = self._whole and "\0" not in found
        return (os.path.normpath(found) if found else state_directory()) if usable else None

    def recognize(self, directory: str, taken: ConfigHealth | None) -> Configured | None:
        """Return the configuration that the daemon has loaded, if it is this one; None if it differs."""
        files = tuple(self._texts)
        if not files and not self._variables:
            return Configured(directory=directory)
        sums = checksums(self._variables) | {path: crc32(text) for path, text in self._texts.items()}
        if taken is None or (taken.sums, taken.version) != (sums, __version__):
            return None
        status = ConfigStatus(files=files)
        return Configured(
            directory=directory, url=taken.url, machine_id=taken.machine_id, redact=taken.redact, status=status
        )


def read_configured(file: str | None, environ: Mapping[str, str]) -> Configured:
    """Load the configuration; if it is invalid, return its state directory and defaults for the rest."""
    with hide_modules("typing_extensions"):  # msgspec uses three of its names, which `typing` has too
        import msgspec  # noqa: F401
    from sessiond.config import load, state_dir

    try:
        loaded = load(file, environ)
    except ConfigError as error:
        wrong = ConfigStatus(error=str(error), hint=error.hint)
        return Configured(directory=_directory_of(file, environ), status=wrong)
    config = loaded.config
    return Configured(
        directory=state_dir(config),
        url=config.endpoint.url,
        machine_id=config.machine_id,
        redact=config.redact,
        status=ConfigStatus(files=loaded.files),
    )


def _directory_of(file: str | None, environ: Mapping[str, str]) -> str:
    """Return the state directory of an otherwise invalid configuration, or the default directory."""
    import tomllib

    from sessiond.config import load

    named = environ.get("SESSIOND_STATE_DIR")
    if named is None:
        try:
            with open(file or environ.get("SESSIOND_CONFIG") or config_file(), "rb") as stream:
                named = tomllib.load(stream).get("state_dir")
        except (OSError, ValueError):
            return state_directory()
    home = {"HOME": environ["HOME"]} if "HOME" in environ else {}
    try:
        found = load(os.devnull, {**home, "SESSIOND_STATE_DIR": str(named or "")}).config.state_dir
    except ConfigError:
        found = ""
    return found or state_directory()
