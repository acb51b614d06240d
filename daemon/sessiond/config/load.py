"""The config out of its files and the environment, with errors that name file, key and line."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from stat import S_ISREG
from typing import Any
from zlib import crc32

import msgspec

from sessiond.config.check import ConfigPosition, did_you_mean, dotted, validate
from sessiond.config.environment import overrides
from sessiond.config.model import Config
from sessiond.directories import checksums, config_file, part_files, state_directory, variables
from sessiond.errors import ConfigError

MAX_FILE = 1 << 20
"""Bytes of a config file; what is larger was named by mistake."""

_AT_LINE = re.compile(r" \(at line (\d+), column (\d+)\)$")


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A config and how it came about."""

    config: Config
    files: tuple[str, ...] = ()
    """The files that were read, in the order in which later ones win."""
    warnings: tuple[str, ...] = ()
    """What is odd and yet no error, one sentence each."""
    origins: dict[str, str] = {}
    """For each key that is set (`endpoint.url`) where: `FILE:LINE` or the variable. The others have their default."""
    sums: dict[str, int] = {}
    """For each file the checksum of what was read, and for each variable that of its text."""


def state_dir(config: Config) -> str:
    """Name the directory of the spool: the configured one, or the platform's (`~/.local/state/sessiond`)."""
    return config.state_dir or state_directory()


def load(file: str | None, environ: Mapping[str, str], *, tools: Collection[str] | None = None) -> Loaded:
    """Read the config: the user's file, `config.d/*.toml` beside it, and `SESSIOND_*`; later ones win.

    `file` is what `--config` names; without it SESSIOND_CONFIG, then the platform's place, which may be
    empty: then all is default. With `tools`, a name below `[sources]` has to be one of them.

    Raises: ConfigError for what can't be read, is no TOML, unknown, of a wrong type or out of bounds.
    """
    home = environ.get("HOME") or os.path.expanduser("~")
    named = file or environ.get("SESSIOND_CONFIG")
    user_file = os.path.abspath(named or config_file())
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    positions: dict[str, ConfigPosition] = {}
    sums = checksums(variables(environ))
    files: list[str] = []
    warnings: list[str] = []
    for path in (user_file, *_parts(user_file)):
        if path == user_file and not named and not os.path.lexists(path):
            continue
        table, position, sums[path] = _read(path, home)
        files.append(path)
        warnings += _exposed(path)
        for key, value in _leaves(validate(table, position)):
            _set(merged, key, value)
            line = next((position.lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in position.lines), None)
            origins[dotted(key)] = f"{path}:{line}"
            positions[dotted(key)] = position
    made, unknown = overrides(environ, home)
    for override in made:
        _set(merged, override.path, override.value)
        origins[dotted(override.path)] = override.variable
        positions[dotted(override.path)] = ConfigPosition(variable=override.variable, home=home)
    config = msgspec.convert(merged, Config)
    _check_whole(config, positions, tools)
    return Loaded(
        config=config,
        files=tuple(files),
        warnings=(*warnings, *unknown),
        origins=origins,
        sums=sums,
    )


def _parts(user_file: str) -> list[str]:
    try:
        return part_files(user_file)
    except OSError as error:
        raise ConfigError(f"can't be read: {(error.strerror or '').lower()}", file=error.filename) from error


def _read(path: str, home: str) -> tuple[dict[str, Any], ConfigPosition, int]:
    import tomllib

    from sessiond.config.lines import key_lines

    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_FILE + 1)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ConfigError(f"can't be read: {reason}", file=path, hint="see `sessiond config path`") from error
    if len(content) > MAX_FILE:
        raise ConfigError("is too large for a config file", file=path)
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        return tomllib.loads(text), ConfigPosition(file=path, lines=key_lines(text), home=home), crc32(content)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8 text", file=path, line=line) from error
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = _AT_LINE.search(message)
        line = int(found[1]) if found else text.count("\n") + 1
        what = message[: found.start()] if found else message.removesuffix(" (at end of document)")
        where = f" at column {found[2]}" if found else " at the end of the file"
        raise ConfigError(
            f"not valid TOML: {what[:1].lower()}{what[1:]}{where}",
            file=path,
            line=line,
            hint='text stands in quotes (url = "https://..."), tables in brackets ([endpoint])',
        ) from error


def _exposed(path: str) -> list[str]:
    mode = os.stat(path).st_mode
    if mode & 0o002 and S_ISREG(mode):
        return [f"{path} can be changed by every user of this machine: chmod o-w {path}"]
    return []


def _leaves(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, value in table.items():
        here = (*path, name)
        found += _leaves(value, here) if isinstance(value, dict) else [(here, value)]
    return found


def _set(table: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        table = table.setdefault(name, {})
    table[path[-1]] = value


def _check_whole(config: Config, positions: Mapping[str, ConfigPosition], tools: Collection[str] | None) -> None:
    """Check what no single key can tell, and blame the key that the user can change."""
    try:
        if config.endpoint.url:
            from sessiond.config.url import check_url

            check_url(config.endpoint.url, allow_insecure_http=config.endpoint.allow_insecure_http)
    except ConfigError as error:
        raise positions["endpoint.url"].error(error.message, ("endpoint", "url"), hint=error.hint) from error
    state = os.path.realpath(state_dir(config)) if config.sources else ""
    for tool, settings in config.sources.items():
        path = ("sources", tool)
        position = (
            positions.get(dotted((*path, "roots"))) or positions.get(dotted((*path, "enabled"))) or ConfigPosition()
        )
        if tools is not None and tool not in tools:
            raise position.error("unknown tool", path, hint=did_you_mean(tool, tools) or "see `sessiond sources`")
        for index, root in enumerate(settings.roots):
            real = os.path.realpath(root)
            # A root that holds the spool would make each capture cause the next one, for ever.
            if not root or os.path.commonpath((real, state)) in (real, state):
                message = f'"{root}" and the state directory {state} lie in one another'
                raise position.error(message, (*path, "roots", index), hint="name the directory of the tool alone")
