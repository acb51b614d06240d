"""Validate values against the types of the configuration, with errors that name the key and a suggestion."""

from __future__ import annotations

import functools
import math
import os
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from sessiond.config.model import Config, Redaction
from sessiond.config.units import parse_backfill, parse_duration, parse_percent, parse_rate, parse_size
from sessiond.decoding import convert
from sessiond.errors import ConfigError

if TYPE_CHECKING:
    from sessiond.config.lines import Path

Kind = Any
"""A type as msgspec accepts it: a class, or a form of `typing` with bounds."""

_PARSERS: dict[str, Callable[[str], float]] = {
    "seconds": parse_duration,
    "bytes": parse_size,
    "rate": parse_rate,
    "percent": parse_percent,
}
_SECRETS = {"token", "password", "secret", "api_key", "key", "auth", "authorization"}


class ConfigPosition(msgspec.Struct, frozen=True, kw_only=True):
    """The origin of values: a file with the lines of its keys, or an environment variable."""

    file: str | None = None
    lines: dict[Path, int] = {}
    variable: str | None = None
    home: str = "/"

    def error(self, message: str, path: Path, *, hint: str | None = None) -> ConfigError:
        """Return the error for a key, with the line of the key or of its table."""
        line = None
        for length in range(len(path), 0, -1):
            line = line or self.lines.get(path[:length])
        return ConfigError(message, file=self.file, key=self.variable or dotted(path), line=line, hint=hint)


def dotted(path: Path) -> str:
    """Format a key as in TOML: `sources.claude-code.roots[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part.isascii() and part.replace("-", "a").replace("_", "a").isalnum()
            text += ("." if text else "") + (part if bare else _quoted(part))
    return text


def keys(kind: Kind = Config, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Kind]]:
    """Iterate every key of the configuration with its type; `*` means any name (the tools in `sources`)."""
    for name, inner in members(kind).items():
        here = (*path, name)
        if members(inner):
            yield from keys(inner, here)
        else:
            yield here, inner


@functools.cache  # msgspec evaluates the annotations each time, and a command asks a dozen times before it begins
def members(kind: Kind) -> Mapping[str, Kind]:
    """Return the types of the keys of a table, by name; empty if the type is not a table."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    if _form(kind) is dict:
        return {"*": typing.get_args(kind)[1]}
    return {}


class Problems:
    """What happens to invalid settings: the first one is raised, or all are collected and left out."""

    def __init__(self, *, collect: bool = False) -> None:
        self.found: list[ConfigError] = []
        self._collect = collect

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Collect a ConfigError that is raised inside, if errors are collected."""
        try:
            yield
        except ConfigError as error:
            if not self._collect:
                raise
            self.found.append(error)


def validate(
    table: Mapping[str, Any],
    position: ConfigPosition,
    problems: Problems | None = None,
    kind: Kind = Config,
    path: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Validate a table and return its values as plain ones: seconds, bytes, absolute paths.

    Raises: ConfigError for a key that is unknown, of a wrong type or out of bounds, unless `problems` collects it.
    """
    problems = problems or Problems()
    known = members(kind)
    plain: dict[str, Any] = {}
    for name, value in table.items():
        here = (*path, name)
        inner = known.get("*", known.get(name))
        with problems.caught():
            if inner is None:
                raise position.error("unknown key", here, hint=_nearest_key(name, path, known))
            if not members(inner):
                plain[name] = validate_value(value, inner, position, here)
            elif isinstance(value, dict):
                plain[name] = validate(value, position, problems, inner, here)
            else:
                raise position.error(f"expected a table; got {describe(value)}", here, hint=f"write [{dotted(here)}]")
    return plain


def validate_value(value: Any, kind: Kind, position: ConfigPosition, path: Path) -> Any:
    """Validate one value; convert text with a unit to a number, and `~/` to the home directory.

    Raises: ConfigError with the expected type and the value.
    """
    if _form(kind) is list and isinstance(value, list):
        (element,) = typing.get_args(kind)
        return [validate_value(item, element, position, (*path, index)) for index, item in enumerate(value)]
    meta = _meta(kind)
    unit = (meta.extra or {}).get("unit") if meta else None
    try:
        if isinstance(value, str) and unit in _PARSERS:
            plain: Any = _PARSERS[unit](value)
        elif isinstance(value, str) and unit == "backfill":
            parse_backfill(value)
            plain = value
        elif isinstance(value, str) and unit == "path" and value:
            plain = _absolute(value, position.home)
        elif isinstance(value, float) and math.isnan(value):
            raise ValueError("not a number")
        else:
            plain = value
        return convert(plain, kind)
    except ValueError as error:  # msgspec.ValidationError is one
        # Do not repeat the text of a path: it may be a token that was set instead of its file.
        found = "other text" if unit in ("path", "secret") and isinstance(value, str) else describe(value)
        hint = None
        if _form(kind) is Literal and isinstance(value, str):
            hint = did_you_mean(value.lower(), typing.get_args(kind))
        raise position.error(f"expected {describe_type(kind)}; got {found}", path, hint=hint) from error


def describe_type(kind: Kind) -> str:
    """Describe the values of a type in words."""
    meta = _meta(kind)
    if meta and meta.description:
        return meta.description
    base = typing.get_args(kind)[0] if _form(kind) is Annotated else kind
    if _form(base) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in typing.get_args(base))
    if _form(base) is list:
        return f"a list of values that are each {describe_type(typing.get_args(base)[0])}"
    words = {str: "text in quotes", bool: "true or false", int: "a whole number", float: "a number"}
    return words.get(base, "another value")


def describe(value: object) -> str:
    """Describe a value in words; shorten long text."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            short = value if len(value) <= 40 else value[:37] + "..."
            return f"text {_quoted(short)}" if value else "empty text"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def did_you_mean(name: str, choices: Collection[str]) -> str | None:
    """Return a hint with the closest choice, or the only one that begins so; None if no choice is similar."""
    import difflib  # late import: `status` does not need it unless there is an error

    near = [choice for choice in choices if choice.startswith(name)]
    if len(near) != 1:
        near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else None


def may_mean_masking(name: str, value: object) -> bool:
    """Return whether an unknown key at the top of a file may be one about what is masked, mistyped or misplaced.

    It may if its name is similar, if it is a table with a similar name in it, or if only such a key has its value.
    """
    modes = typing.get_args(members(Config)["redact"])
    known = ["redact", "redaction", *members(Redaction)]
    names = [name, *value] if isinstance(value, dict) else [name]
    return value in modes or any(did_you_mean(each.lower(), known) for each in names)


def _nearest_key(name: str, path: Path, known: Mapping[str, Kind]) -> str:
    if name.lower() in _SECRETS:
        return "do not put a token here: put it in a file of mode 0600 and set endpoint.token_file to that file"
    if hint := did_you_mean(name, known):
        return hint
    for other, _ in keys():
        if other[-1] == name and "*" not in other:
            where = f"in [{dotted(other[:-1])}]" if len(other) > 1 else "above the first [table]"
            return f'did you mean "{dotted(other)}"? it belongs {where}'
    everywhere = {dotted(other) for other, _ in keys() if "*" not in other}
    hint = did_you_mean(dotted((*path, name)), everywhere)
    return hint or "known keys: " + ", ".join(sorted(known))


def _form(kind: Kind) -> object:
    """Return the origin of a type (`list` for `list[str]`) as an object: `Annotated` and `Literal` are not classes."""
    return typing.get_origin(kind)


def _meta(kind: Kind) -> msgspec.Meta | None:
    if _form(kind) is Annotated:
        return next((extra for extra in kind.__metadata__ if isinstance(extra, msgspec.Meta)), None)
    return None


def _quoted(text: str) -> str:
    """Quote untrusted text; escape control characters, and surrogates from bytes that are not UTF-8."""
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) + '"'


def _absolute(text: str, home: str) -> str:
    if text == "~" or text.startswith("~/"):
        text = home + text[1:]
    if not text.startswith("/") or "\0" in text:
        raise ValueError("not an absolute path")
    return os.path.normpath(text)
