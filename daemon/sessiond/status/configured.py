"""Which configuration holds, for `status`, without reading one that somebody has read already.

To parse, check and type a configuration takes longer than all else that `status` does. So where its files are what
the daemon took over last, what the daemon said of it is believed; only other ones are read here.
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

MOST = 1 << 20
"""Bytes of files that are compared; what is larger is no configuration."""


class Configured(FrozenRecord):
    """What `status` needs of a configuration."""

    directory: str
    """Of the state."""
    url: str = ""
    machine_id: str = ""
    redact: str = "mask"
    status: ConfigStatus = ConfigStatus()


class Origins:
    """The files and variables of a configuration as they are now: enough to recognise one that a daemon has read."""

    def __init__(self, file: str | None, environ: Mapping[str, str]) -> None:
        """`file` and `environ` say where the configuration is, as for `config.load`."""
        self._texts: dict[str, bytes] = {}
        self._variables = variables(environ)
        self._home = environ.get("HOME", "")
        self._whole = True
        named = file or environ.get("SESSIOND_CONFIG")
        try:
            self._read(os.path.abspath(named or config_file()), must_be=bool(named))
        except OSError:
            self._whole = False  # `config.load` says why

    def _read(self, user_file: str, *, must_be: bool) -> None:
        for path in (user_file, *part_files(user_file)):
            if path == user_file and not must_be and not os.path.lexists(path):
                continue
            with open(path, "rb") as stream:
                self._texts[path] = stream.read(MOST)

    def directory(self) -> str | None:
        """Guess where the state is; None where there is none to be made.

        A guess will do: in another directory there is no daemon's word on just these files.
        """
        found = self._variables.get("SESSIOND_STATE_DIR", "")
        for text in () if found else self._texts.values():
            for line in text.split(b"\n"):
                key, _, value = line.partition(b"=")
                if key.strip() == b"state_dir":
                    found = os.fsdecode(value.partition(b"#")[0].strip().strip(b"\"'"))
        if found.startswith("~/"):
            found = self._home + found[1:]
        fine = self._whole and "\0" not in found
        return (os.path.normpath(found) if found else state_directory()) if fine else None

    def recognised(self, directory: str, taken: ConfigHealth | None) -> Configured | None:
        """Take what the daemon said of its configuration, if it is this one. Where nothing is set there is none."""
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
    """Read the configuration; of an invalid one take where the state lies and defaults for the rest."""
    with hide_modules("typing_extensions"):  # msgspec wants three names of it that `typing` has too
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
    """Find the state directory in a configuration that is wrong elsewhere, else the platform's."""
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
