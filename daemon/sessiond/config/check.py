"""Values against the config's types, key by key, so that an error can name the key and what was meant."""

from __future__ import annotations

import math
import os
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from sessiond.config.model import Config
from sessiond.config.units import parse_backfill, parse_duration, parse_percent, parse_rate, parse_size
from sessiond.errors import ConfigError

if TYPE_CHECKING:
    from sessiond.config.lines import Path

Kind = Any
"""A type as msgspec takes it: a class, or a form of `typing` with its bounds."""

_PARSERS: dict[str, Callable[[str], float]] = {
    "seconds": parse_duration,
    "bytes": parse_size,
    "rate": parse_rate,
    "percent": parse_percent,
}
_SECRETS = {"token", "password", "secret", "api_key", "key", "auth", "authorization"}


class ConfigPosition(msgspec.Struct, frozen=True, kw_only=True):
    """Where values come from: a file and the lines of its keys, or a variable of the environment."""

    file: str | None = None
    lines: dict[Path, int] = {}
    variable: str | None = None
    home: str = "/"

    def error(self, message: str, path: Path, *, hint: str | None = None) -> ConfigError:
        """Make the error for a key, with the line of the key or of the table around it."""
        line = None
        for length in range(len(path), 0, -1):
            line = line or self.lines.get(path[:length])
        return ConfigError(message, file=self.file, key=self.variable or dotted(path), line=line, hint=hint)


def dotted(path: Path) -> str:
    """Write a key as one would in TOML: `sources.claude-code.roots[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part.isascii() and part.replace("-", "a").replace("_", "a").isalnum()
            text += ("." if text else "") + (part if bare else _quoted(part))
    return text


def keys(kind: Kind = Config, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Kind]]:
    """List every key of the config with its type; `*` stands for any name (the tools below `sources`)."""
    for name, inner in members(kind).items():
        here = (*path, name)
        if members(inner):
            yield from keys(inner, here)
        else:
            yield here, inner


def members(kind: Kind) -> dict[str, Kind]:
    """List what a table of this type holds, by name; nothing for a type that is no table."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    if _form(kind) is dict:
        return {"*": typing.get_args(kind)[1]}
    return {}


def validate(
    table: Mapping[str, Any], position: ConfigPosition, kind: Kind = Config, path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Check a table against its type and make its values plain: seconds, bytes, absolute paths.

    Raises: ConfigError for the first key that is unknown, of a wrong type or out of bounds.
    """
    known = members(kind)
    plain: dict[str, Any] = {}
    for name, value in table.items():
        here = (*path, name)
        inner = known.get("*", known.get(name))
        if inner is None:
            raise position.error("unknown key", here, hint=_nearest_key(name, path, known))
        if not members(inner):
            plain[name] = validate_value(value, inner, position, here)
        elif isinstance(value, dict):
            plain[name] = validate(value, position, inner, here)
        else:
            raise position.error(f"wants a table, found {describe(value)}", here, hint=f"write [{dotted(here)}]")
    return plain


def validate_value(value: Any, kind: Kind, position: ConfigPosition, path: Path) -> Any:
    """Check one value; text with a unit becomes a number, `~/` becomes the home directory.

    Raises: ConfigError that says what is wanted and what was found.
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
        return msgspec.convert(plain, kind, strict=True)
    except ValueError as error:  # msgspec.ValidationError is one
        # The text of a path is not repeated: people put the token itself where its file is asked for.
        found = "other text" if unit in ("path", "secret") and isinstance(value, str) else describe(value)
        hint = None
        if _form(kind) is Literal and isinstance(value, str):
            hint = did_you_mean(value.lower(), typing.get_args(kind))
        raise position.error(f"wants {describe_type(kind)}; found {found}", path, hint=hint) from error


def describe_type(kind: Kind) -> str:
    """Say in words what a type takes."""
    meta = _meta(kind)
    if meta and meta.description:
        return meta.description
    base = typing.get_args(kind)[0] if _form(kind) is Annotated else kind
    if _form(base) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in typing.get_args(base))
    if _form(base) is list:
        return f"a list; each element {describe_type(typing.get_args(base)[0])}"
    words = {str: "text in quotes", bool: "true or false", int: "a whole number", float: "a number"}
    return words.get(base, "another value")


def describe(value: object) -> str:
    """Say in words what was found; long text is cut."""
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
    """Make the hint that names the nearest choice; None when nothing is near."""
    import difflib  # here and elsewhere in this package: late, since `status` reads a config that has no error

    near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else None


def _nearest_key(name: str, path: Path, known: Mapping[str, Kind]) -> str:
    if name.lower() in _SECRETS:
        return "a token stays out of this file: put it into a file of mode 0600 and name that in endpoint.token_file"
    if hint := did_you_mean(name, known):
        return hint
    for other, _ in keys():
        if other[-1] == name and "*" not in other:
            where = f"in [{dotted(other[:-1])}]" if len(other) > 1 else "above the first [table]"
            return f'did you mean "{dotted(other)}"? it stands {where}'
    everywhere = {dotted(other) for other, _ in keys() if "*" not in other}
    hint = did_you_mean(dotted((*path, name)), everywhere)
    return hint or "known here: " + ", ".join(sorted(known))


def _form(kind: Kind) -> object:
    """Tell the form of a type (`list` of `list[str]`), typed loosely: `Annotated` and `Literal` are no classes."""
    return typing.get_origin(kind)


def _meta(kind: Kind) -> msgspec.Meta | None:
    if _form(kind) is Annotated:
        return next((extra for extra in kind.__metadata__ if isinstance(extra, msgspec.Meta)), None)
    return None


def _quoted(text: str) -> str:
    """Quote text from outside; it may hold control characters, and lone surrogates where it was no UTF-8."""
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) + '"'


def _absolute(text: str, home: str) -> str:
    if text == "~" or text.startswith("~/"):
        text = home + text[1:]
    if not text.startswith("/") or "\0" in text:
        raise ValueError("not an absolute path")
    return os.path.normpath(text)
