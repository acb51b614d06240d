"""Configuration from environment variables: `SESSIOND_ENDPOINT__URL` sets `url` in `[endpoint]`."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

from sessiond.config.check import ConfigPosition, Kind, Problems, keys, members, validate_value
from sessiond.config.model import Config
from sessiond.directories import PREFIX, SPECIAL, variables

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """One key that an environment variable sets."""

    variable: str
    path: tuple[str, ...]
    value: Any


def overrides(
    environ: Mapping[str, str], home: str, problems: Problems | None = None
) -> tuple[list[Override], list[str]]:
    """Return the keys that `SESSIOND_*` variables set, and a warning for each variable that is not a key.

    Text is parsed by the type of its key: yes and no, units, lists as JSON or separated like PATH.

    Variables whose problem is collected are left out. Raises: ConfigError for an invalid value.
    """
    problems = problems or Problems()
    made: list[Override] = []
    warnings: list[str] = []
    for variable, text in variables(environ).items():
        path, kind = _setting(variable)
        if kind is None:
            import difflib

            near = difflib.get_close_matches(variable.removeprefix(PREFIX), _names(), n=1)
            meant = f': did you mean "{PREFIX}{near[0]}"?' if near else ""
            warnings.append(f"{variable} is not a setting{meant}")
            continue
        position = ConfigPosition(variable=variable, home=home)
        with problems.caught():
            value = validate_value(read_text(text, kind), kind, position, path)
            made.append(Override(variable=variable, path=path, value=value))
    return made, warnings


def _setting(variable: str) -> tuple[tuple[str, ...], Kind | None]:
    path: tuple[str, ...] = ()
    kind: Kind = Config
    for part in variable.removeprefix(PREFIX).lower().split("__"):
        inside = members(kind)
        if "*" in inside and part:
            path, kind = (*path, part.replace("_", "-")), inside["*"]  # names of tools contain dashes
        elif part in inside:
            path, kind = (*path, part), inside[part]
        else:
            return (), None
    return (path, None) if members(kind) else (path, kind)


def _names() -> list[str]:
    special = [variable.removeprefix(PREFIX) for variable in SPECIAL]
    return special + ["__".join(path).upper() for path, _ in keys() if "*" not in path]


def read_text(text: str, kind: Kind) -> Any:
    """Parse text to the value that TOML would give. Text that does not fit stays text and fails the validation."""
    base = typing.get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    if base is bool:
        word = text.strip().lower()
        return True if word in _YES else False if word in _NO else text
    if base is str or typing.get_origin(base) is typing.Literal:
        return text
    if typing.get_origin(base) is list and not text.lstrip().startswith("["):
        return [part for part in text.split(os.pathsep) if part]
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
