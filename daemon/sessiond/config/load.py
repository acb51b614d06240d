"""Load the configuration from its files and the environment, with errors that name file, key and line."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from stat import S_ISREG
from typing import Any
from zlib import crc32

import msgspec

from sessiond.config.check import ConfigPosition, Problems, did_you_mean, dotted, may_mean_masking, members, validate
from sessiond.config.environment import overrides
from sessiond.config.model import Config
from sessiond.decoding import convert
from sessiond.directories import PREFIX, checksums, config_file, part_files, state_directory, variables
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
    problems: tuple[ConfigError, ...] = ()
    """What `load_valid` left out."""
    unknown: tuple[tuple[str, Any], ...] = ()
    """Keys and tables at the top of a file that are not known, with their values."""

    def masking_problem(self) -> ConfigError | None:
        """Return a problem that may concern what is masked.

        A file that can't be read at all may. An unknown key may if it looks like one that does.
        """
        doubtful = {dotted((name,)) for name, value in self.unknown if may_mean_masking(name, value)}
        for problem in self.problems:
            key = (problem.key or "").removeprefix(PREFIX).lower()
            if problem.key is None or problem.key in doubtful or key.startswith("redact"):
                return problem
        return None


def state_dir(config: Config) -> str:
    """Return the state directory: the configured one, or the default (`~/.local/state/sessiond`)."""
    return config.state_dir or state_directory()


def load(file: str | None, environ: Mapping[str, str], *, tools: Collection[str] | None = None) -> Loaded:
    """Load the user's file, `config.d/*.toml` next to it, and `SESSIOND_*` variables; later ones override.

    `file` is the argument of `--config`; without it, SESSIOND_CONFIG, then the default path, which need not exist.
    With `tools`, the names in `[sources]` must be among them.

    Raises: ConfigError for a file that can't be read or is not TOML, and for unknown keys and invalid values.
    """
    return _load(file, environ, tools, Problems())


def load_valid(file: str | None, environ: Mapping[str, str], *, tools: Collection[str] | None = None) -> Loaded:
    """Load what is valid of a configuration, with defaults for the rest; `problems` has what was left out.

    For commands that only read, so that a typo does not keep users from their sessions. Never for what captures or
    pushes: a lost `exclude` or rule would send what the user wants to keep here.
    """
    return _load(file, environ, tools, Problems(collect=True))


def _load(file: str | None, environ: Mapping[str, str], tools: Collection[str] | None, problems: Problems) -> Loaded:
    home = environ.get("HOME") or os.path.expanduser("~")
    named = file or environ.get("SESSIOND_CONFIG")
    user_file = os.path.abspath(named or config_file())
    parts: list[str] = []
    with problems.caught():
        parts = _parts(user_file)
    present = named or os.path.lexists(user_file)
    values = _Values(home, problems)
    for path in (user_file, *parts) if present else parts:
        with problems.caught():
            values.add_file(path)
    unknown = values.add_variables(environ)
    config = _check_whole(convert(values.merged, Config), values.positions, tools, problems)
    return Loaded(
        config=config,
        files=tuple(values.files),
        warnings=(*values.warnings, *unknown),
        origins=values.origins,
        sums=checksums(variables(environ)) | values.sums,
        problems=tuple(problems.found),
        unknown=tuple(values.unknown),
    )


class _Values:
    """The values of all files and variables so far, and where they come from."""

    def __init__(self, home: str, problems: Problems) -> None:
        self._home, self._problems = home, problems
        self.merged: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.positions: dict[str, ConfigPosition] = {}
        self.sums: dict[str, int] = {}
        self.files: list[str] = []
        self.warnings: list[str] = []
        self.unknown: list[tuple[str, Any]] = []

    def add_file(self, path: str) -> None:
        """Override the values by those of a file. Raises: ConfigError."""
        table, position, self.sums[path] = _read(path, self._home)
        self.files.append(path)
        self.warnings += _exposed(path)
        self.unknown += [(name, value) for name, value in table.items() if name not in members(Config)]
        for key, value in _leaves(validate(table, position, self._problems)):
            line = next((position.lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in position.lines), None)
            self._add(key, value, f"{path}:{line}", position)

    def add_variables(self, environ: Mapping[str, str]) -> list[str]:
        """Override the values by those of variables; return warnings. Raises: ConfigError."""
        made, unknown = overrides(environ, self._home, self._problems)
        for override in made:
            position = ConfigPosition(variable=override.variable, home=self._home)
            self._add(override.path, override.value, override.variable, position)
        return unknown

    def _add(self, key: tuple[str, ...], value: Any, origin: str, position: ConfigPosition) -> None:
        _set(self.merged, key, value)
        self.origins[dotted(key)], self.positions[dotted(key)] = origin, position


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
    except RecursionError as error:  # otherwise one edit would end a running daemon
        raise ConfigError("is nested too deeply", file=path, hint="remove the nested brackets") from error
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


def _check_whole(
    config: Config, positions: Mapping[str, ConfigPosition], tools: Collection[str] | None, problems: Problems
) -> Config:
    """Validate keys that depend on each other; the error names the key that the user can change.

    Return the configuration without the keys whose problem is collected.
    """
    before = len(problems.found)
    with problems.caught():
        _check_address(config, positions)
    if len(problems.found) > before:  # the token must not be sent to an address that was refused
        config = msgspec.structs.replace(config, endpoint=msgspec.structs.replace(config.endpoint, url=""))
    state, sources = os.path.realpath(state_dir(config)) if config.sources else "", dict(config.sources)
    for tool in config.sources:
        before = len(problems.found)
        with problems.caught():
            _check_source(config, tool, state, positions, tools)
        if len(problems.found) > before:
            del sources[tool]
    return msgspec.structs.replace(config, sources=sources) if sources != config.sources else config


def _check_address(config: Config, positions: Mapping[str, ConfigPosition]) -> None:
    if not config.endpoint.url:
        return
    from sessiond.config.url import check_url

    try:
        check_url(config.endpoint.url, allow_insecure_http=config.endpoint.allow_insecure_http)
    except ConfigError as error:
        raise positions["endpoint.url"].error(error.message, ("endpoint", "url"), hint=error.hint) from error


def _check_source(
    config: Config, tool: str, state: str, positions: Mapping[str, ConfigPosition], tools: Collection[str] | None
) -> None:
    path = ("sources", tool)
    position = positions.get(dotted((*path, "roots"))) or positions.get(dotted((*path, "enabled"))) or ConfigPosition()
    if tools is not None and tool not in tools:
        raise position.error("unknown tool", path, hint=did_you_mean(tool, tools) or "see `sessiond sources`")
    for index, root in enumerate(config.sources[tool].roots):
        real = os.path.realpath(root)
        # If a root contained the spool, each capture would change a file in the root and so cause another capture.
        if not root or os.path.commonpath((real, state)) in (real, state):
            message = f'"{root}" and the state directory {state} must not contain each other'
            raise position.error(message, (*path, "roots", index), hint="use only the directory of the tool")
