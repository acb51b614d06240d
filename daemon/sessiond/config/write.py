"""Write configuration: keys to a file in config.d/, and the user's own file only on request."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Collection, Mapping
from typing import Any

import tomli_w

from sessiond.atomic import atomic_write
from sessiond.config.check import ConfigPosition, Kind, did_you_mean, dotted, keys, members, validate, validate_value
from sessiond.config.environment import read_text
from sessiond.config.load import load
from sessiond.config.model import Config
from sessiond.errors import ConfigError

SET_FILE = "50-set.toml"
"""The file in config.d/ that `sessiond config set` writes."""
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def set_key(
    user_file: str, key: str, text: str | None, environ: Mapping[str, str], tools: Collection[str]
) -> tuple[str, Any]:
    """Set a key in config.d/50-set.toml, or remove it (`text` is None); return the file and the value.

    The whole configuration is validated with the change first, so that an invalid one is never written.

    Raises: ConfigError.
    """
    path, kind = _find(key)
    file = os.path.join(os.path.dirname(user_file), "config.d", SET_FILE)
    try:
        with open(file, "rb") as stream:
            table = tomllib.load(stream)
    except FileNotFoundError:
        table = {}
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", file=file, hint="correct the file, or remove it") from error
    value = None
    if text is not None:
        home = environ.get("HOME") or os.path.expanduser("~")
        value = validate_value(read_text(text, kind), kind, ConfigPosition(home=home), path)
    _put(table, path, value)
    content = "# Written by `sessiond config set`; overrides config.toml.\n" + tomli_w.dumps(table)
    validate(table, ConfigPosition(file=file))
    try:
        _try(user_file, {file: content}, environ, tools)
    except ConfigError as error:
        if error.file != file:
            raise
        # The line is one of a file that is not written.
        raise ConfigError(_message(error), key=error.key, hint=error.hint) from error
    replace_file(file, content)
    return file, value


def check_text(user_file: str, text: str, environ: Mapping[str, str], tools: Collection[str]) -> None:
    """Validate the configuration as it would be with another text in the user's file. Raises: ConfigError."""
    _try(user_file, {user_file: text}, environ, tools)


def replace_file(path: str, text: str) -> None:
    """Write a file whole or not at all, keeping its mode and the link that leads to it. Raises: OSError."""
    real = os.path.realpath(path)
    os.makedirs(os.path.dirname(real), mode=0o700, exist_ok=True)
    mode = stat.S_IMODE(os.stat(real).st_mode) if os.path.exists(real) else 0o600
    atomic_write(real, text.encode(), mode=mode)


def _find(key: str) -> tuple[tuple[str, ...], Kind]:
    path = tuple(key.split(".")) if _KEY.fullmatch(key) else ()
    kind: Kind = Config
    for part in path:
        inside = members(kind)
        kind = inside.get("*", inside.get(part))
        if kind is None:
            break
    if not path or kind is None or members(kind):
        names = [dotted(known).replace('"*"', "TOOL") for known, _ in keys()]
        raise ConfigError("unknown key", key=key, hint=did_you_mean(key, names) or "known keys: " + ", ".join(names))
    return path, kind


def _put(table: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    if len(path) > 1:
        inner = table.setdefault(path[0], {})
        _put(inner, path[1:], value)
        if not inner:
            del table[path[0]]
    elif value is None:
        table.pop(path[0], None)
    else:
        table[path[0]] = value


def _try(user_file: str, changed: Mapping[str, str], environ: Mapping[str, str], tools: Collection[str]) -> None:
    """Load a copy of all files with the changes applied; errors name the original files."""
    folder = os.path.join(os.path.dirname(user_file), "config.d")
    with tempfile.TemporaryDirectory(prefix="sessiond-") as copy:
        main = os.path.join(copy, os.path.basename(user_file))
        parts = os.path.join(copy, "config.d")
        os.mkdir(parts)
        real = {main: user_file}
        if os.path.exists(user_file):
            shutil.copy(user_file, main)
        elif user_file not in changed:
            open(main, "w").close()
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if name.endswith(".toml") and not name.startswith("."):
                shutil.copy(os.path.join(folder, name), os.path.join(parts, name))
                real[os.path.join(parts, name)] = os.path.join(folder, name)
        for path, text in changed.items():
            target = main if path == user_file else os.path.join(parts, os.path.basename(path))
            real[target] = path
            with open(target, "w", encoding="utf-8") as stream:
                stream.write(text)
        try:
            load(main, environ, tools=tools)
        except ConfigError as error:
            file = real.get(error.file or "", error.file)
            raise ConfigError(_message(error), file=file, key=error.key, line=error.line, hint=error.hint) from error


def _message(error: ConfigError) -> str:
    """Return the message without its position and key."""
    position = ":".join(str(part) for part in (error.file, error.line) if part is not None)
    return error.message.removeprefix(f"{position}: ").removeprefix(f"{error.key}: ")
