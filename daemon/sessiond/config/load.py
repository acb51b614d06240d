"""Load the configuration from its files and the environment, with errors that name file, key and line."""

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
"""Largest configuration file in bytes; a larger one was given by mistake."""

_AT_LINE = re.compile(r" \(at line (\d+), column (\d+)\)$")


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration and where its values come from."""

    config: Config
    files: tuple[str, ...] = ()
    """The files that were read; later ones override earlier ones."""
    warnings: tuple[str, ...] = ()
    """Problems that are not errors, one sentence each."""
    origins: dict[str, str] = {}
    """The origin of each key that is set (`endpoint.url`): `FILE:LINE` or the variable. Other keys are defaults."""
    sums: dict[str, int] = {}
    """Checksums of the content of each file and of the text of each variable."""


def state_dir(config: Config) -> str:
    """Return the state directory: the configured one, or the default (`~/.local/state/sessiond`)."""
    return config.state_dir or state_directory()


def load(file: str | None, environ: Mapping[str, str], *, tools: Collection[str] | None = None) -> Loaded:
    """Load the user's file, `config.d/*.toml` next to it, and `SESSIOND_*` variables; later ones override.

    `file` is the argument of `--config`; without it, SESSIOND_CONFIG, then the default path, which need not exist.
    With `tools`, the names in `[sources]` must be among them.

    Raises: ConfigError for a file that can't be read or is not TOML, and for unknown keys and invalid values.
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
        raise ConfigError("is too large for a configuration file", file=path)
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
            hint='put text in quotes (url = "https://...") and tables in brackets ([endpoint])',
        ) from error


def _exposed(path: str) -> list[str]:
    mode = os.stat(path).st_mode
    if mode & 0o002 and S_ISREG(mode):
        return [f"every user of this machine can change {path}: chmod o-w {path}"]
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
    """Validate keys that depend on each other; the error names the key that the user can change."""
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
            # If a root contained the spool, each capture would change a file in the root and so cause another capture.
            if not root or os.path.commonpath((real, state)) in (real, state):
                message = f'"{root}" and the state directory {state} must not contain each other'
                raise position.error(message, (*path, "roots", index), hint="use only the directory of the tool")
