"""Reads files of rules, in the fields of gitleaks' configuration, and derives what a scan needs from each rule.

To parse a file and to derive a trigger from each expression takes most of a start. The result is therefore cached
beside the compiled database. Its name is a digest of the file, of this program's code and of Python's version.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from hashlib import blake2b
from typing import Literal

import msgspec

from sessiond.decoding import convert, msgpack_decoder
from sessiond.errors import ConfigError
from sessiond.redact.cache import read, store
from sessiond.redact.go_syntax import from_go
from sessiond.redact.shape import Shape, derive, forget
from sessiond.redact.words import with_words


class Allow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Exceptions from a rule: an allow-list as gitleaks writes it."""

    description: str = ""
    condition: Literal["OR", "AND", "or", "and", "||", "&&"] = "OR"
    regex_target: Literal["", "secret", "match", "line"] = ""
    regexes: list[str] = []
    stopwords: list[str] = msgspec.field(default_factory=list, name="stopwords")
    paths: list[str] = []
    commits: list[str] = []
    target_rules: list[str] = []


class Wrapped(msgspec.Struct, frozen=True, kw_only=True):
    """Beginnings of secrets that are looked for in base64 too."""

    prefixes: list[str] = []


class RawRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule as it is written in TOML. The last nine fields are our own.

    - `match` and `miss` are examples of texts that the rule finds, and that it leaves.
    - `parts` matches the parts of a secret that are masked, instead of all of it: its first group, or the second.
    - `command`: the rule describes a command, and is applied to lists of arguments too.

    The others are for speed.

    - `trigger` is searched for instead of the trigger that is derived from `regex`. It matches wherever `regex` begins
      to match, unless there is `before`.
    - `before`: the trigger is searched for in the raw bytes, escapes included. A match of the rule begins at most this
      many bytes before the end of the trigger.
    - `inside`: the trigger ends this many bytes after the beginning of the value, so that an exempt value is recognised
      without trying the rule. So is a call in source code.
    - `calls`: a value may look like a call all the same.
    - `bounded`: the scanner examines the byte before a match too.
    """

    id: str
    description: str = ""
    regex: str = ""
    entropy: float = 0.0
    keywords: list[str] = []
    secret_group: int = msgspec.field(default=0, name="secretGroup")
    path: str = ""
    tags: list[str] = []
    allowlist: Allow | None = None
    allowlists: list[Allow] = []
    match: list[str] = []
    miss: list[str] = []
    parts: str = ""
    command: bool = False
    trigger: str = ""
    before: int = 0
    inside: int = 0
    calls: bool = False
    bounded: bool = False


class RuleFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of rules; `wrapped` and `fragments` are our own."""

    title: str = ""
    rules: list[RawRule] = []
    allowlist: Allow | None = None
    allowlists: list[Allow] = []
    wrapped: Wrapped = Wrapped()
    fragments: dict[str, str] = {}
    """Parts of expressions by name. A rule writes `{{name}}` for one."""


class Prepared(msgspec.Struct, frozen=True):
    """A file of rules, and for each rule its expression in Python's syntax and the shape that was derived from it.

    Rules without an expression are about files that are not read. They are left out.
    """

    file: RuleFile
    patterns: list[bytes]
    shapes: list[Shape]


BAD = (re.error, ValueError, RecursionError, OverflowError)
"""The errors that are raised for an expression that can't be used."""
_DERIVING = ("rule_file.py", "go_syntax.py", "shape.py", "syntax.py", "text.py", "words.py")
"""The modules with the code that derives data from a rule."""


def prepare_rules(text: str, *, file: str | None, cache_dir: str | None, check: bool) -> Prepared:
    """Return the rules of a file, from the cache if they are in it. With `check`, each expression is compiled once.

    A cached file was checked before it was stored. Raises: ConfigError that names the file and the rule.
    """
    path = _cache_path(text, cache_dir) if cache_dir is not None else None
    content = read(path) if path is not None else None
    if content is not None:
        try:
            return msgpack_decoder(Prepared).decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass  # prepared again below, and replaced
    prepared = _prepare(text, file)
    if check:
        for raw, pattern in zip(prepared.file.rules, prepared.patterns, strict=True):
            _check(raw, pattern, file)
    if path is not None:
        store(path, msgspec.msgpack.encode(prepared))
    return prepared


def bad_rule(rule: str, error: Exception, file: str | None) -> ConfigError:
    """Return the error for an expression of a rule that can't be used."""
    hint = "it has to match a character at least, without back-references"
    return ConfigError(str(error), file=file, key=f"rules.{rule}.regex", hint=hint)


def _cache_path(text: str, cache_dir: str) -> str | None:
    """Return where a file of rules is cached; None if this program's code can't be read, as in an archive."""
    digest = blake2b(f"{sys.version}\0{msgspec.__version__}\0".encode(), digest_size=16)
    try:
        for name in _DERIVING:
            with open(os.path.join(os.path.dirname(__file__), name), "rb") as source:
                digest.update(source.read() + b"\0")
    except OSError:
        return None
    digest.update(text.encode())
    return os.path.join(cache_dir, f"rules-{digest.hexdigest()}.shapes")


def _prepare(text: str, file: str | None) -> Prepared:
    try:
        parsed = convert(tomllib.loads(text), RuleFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(str(error), file=file, hint="the fields are those of gitleaks' configuration") from error
    parsed = msgspec.structs.replace(parsed, rules=[_complete(raw, parsed) for raw in parsed.rules if raw.regex])
    patterns = [from_go(raw.regex).encode() for raw in parsed.rules]
    shapes = [_shape(raw, pattern, file) for raw, pattern in zip(parsed.rules, patterns, strict=True)]
    forget()
    return Prepared(parsed, patterns, shapes)


def _complete(raw: RawRule, file: RuleFile) -> RawRule:
    """Return a rule with the text of the fragments and words that its expressions name."""
    if "{{" not in raw.regex + raw.parts + raw.trigger:
        return raw
    regex, parts, trigger = raw.regex, raw.parts, raw.trigger
    for name, fragment in file.fragments.items():
        regex, parts, trigger = (text.replace("{{" + name + "}}", fragment) for text in (regex, parts, trigger))
    return msgspec.structs.replace(
        raw,
        regex=with_words(regex, raw=False),
        parts=with_words(parts, raw=False),
        trigger=with_words(trigger, raw=bool(raw.before)),
    )


def _shape(raw: RawRule, pattern: bytes, file: str | None) -> Shape:
    try:
        shape = derive(pattern, b"" if raw.before else from_go(raw.trigger).encode())
        if raw.before:
            re.compile(raw.trigger.encode())
            shape = msgspec.structs.replace(shape, scanned=raw.trigger, before=raw.before)
    except BAD as error:
        raise bad_rule(raw.id, error, file) from error
    return shape


def _check(raw: RawRule, pattern: bytes, file: str | None) -> None:
    """Compile an expression before it is used for the first time. Raises: ConfigError."""
    try:
        groups = re.compile(pattern).groups
    except BAD as error:
        raise bad_rule(raw.id, error, file) from error
    if raw.secret_group > groups:
        raise ConfigError("there is no such group", file=file, key=f"rules.{raw.id}.secretGroup")
