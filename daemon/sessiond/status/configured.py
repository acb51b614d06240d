"""Find the active configuration for `status`, without parsing one that the daemon has already parsed.

Parsing and validating a configuration takes longer than the rest of `status`. If its files are unchanged since the
daemon loaded them, the values that the daemon wrote to the spool are used; otherwise the files are parsed here.
"""

from __future__ import annotations

import os
import re
from zlib import crc32

from sessiond import __version__
from sessiond.directories import checksums, config_file, part_files, state_directory, variables
from sessiond.frozen_record import FrozenRecord
from sessiond.memory import hide_modules
from sessiond.spool.health import ConfigHealth
from sessiond.status.model import ConfigStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_STATE_DIR = b"\nstate_dir"
_PLAIN_STRING = re.compile(rb'[ \t]*=[ \t]*"([ !#-\[\]-~]*)"[ \t\r]*(?:\n|\Z)')
"""A key's value in TOML: a string in double quotes, without escapes, alone in the rest of its line."""
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
        """Return the state directory; None if only a validation can tell, because a file is not valid."""
        set_by_variable = self._variables.get("SESSIOND_STATE_DIR")
        found: object = set_by_variable
        if not self._whole:
            return None
        for text in () if set_by_variable is not None else self._texts.values():
            try:
                found = _state_dir(text, found)
            except (ValueError, RecursionError):  # not UTF-8, not TOML, or nested too deeply
                return None
        if not found:
            return state_directory()
        if not isinstance(found, str) or "\0" in found:
            return None
        if found == "~" or found.startswith("~/"):
            found = self._home + found[1:]
        return os.path.normpath(found) if os.path.isabs(found) else None

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


def _state_dir(text: bytes, default: object) -> object:
    """Return the value of `state_dir` in the text of a configuration, or `default` if it is not set.

    Raises: ValueError, RecursionError.
    """
    if _STATE_DIR not in b"\n" + text:
        return default
    # Importing tomllib takes as long as reading the spool, so the usual form is read without it: a plain string before
    # the first table. Triple quotes may begin a text of several lines, in which such a line means nothing.
    before, _, rest = (b"\n" + text).partition(_STATE_DIR)
    plain = _PLAIN_STRING.match(rest)
    if plain and not any(sign in before for sign in (b"[", b'"""', b"'''")):
        return plain[1].decode()
    import tomllib

    return tomllib.loads(text.decode("utf-8-sig")).get("state_dir", default)


def read_configured(file: str | None, environ: Mapping[str, str]) -> Configured:
    """Load the configuration; of an invalid one, what is valid, and the first problem."""
    with hide_modules("typing_extensions"):  # msgspec uses three of its names, which `typing` has too
        import msgspec  # noqa: F401
    from sessiond.config import load_valid, state_dir

    loaded = load_valid(file, environ)
    config = loaded.config
    problem = loaded.problems[0] if loaded.problems else None
    status = ConfigStatus(files=loaded.files)
    if problem is not None:
        status = ConfigStatus(files=loaded.files, error=str(problem), hint=problem.hint)
    return Configured(
        directory=state_dir(config),
        url=config.endpoint.url,
        machine_id=config.machine_id,
        redact=config.redact,
        status=status,
    )
