"""Rules: what a secret looks like, in the fields of gitleaks' configuration.

Ours are in rules.toml beside this file; a user's are read from any gitleaks TOML. An expression is
applied to text whose escapes are blanked (text.py), so it is written for plain text.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from sessiond.errors import ConfigError
from sessiond.redact.policy import read_ours
from sessiond.redact.shape import Shape, derive, forget
from sessiond.redact.sight import KEYWORD_REACH, LOOK_BEHIND
from sessiond.redact.syntax import is_anchored


class Allow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is no secret although a rule matches: an allow-list as gitleaks writes it."""

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
    """One rule as it is written in TOML. The last six fields are our own.

    `match` and `miss` are examples of what it finds and what it leaves. `parts` matches the parts of a secret that are
    masked, instead of all of it: its first group, or the second. The other three are for speed. `trigger` is
    searched for instead of the trigger that is derived from `regex`. Without `before` it matches wherever `regex`
    begins to match. With `before` it is applied to the raw bytes, escapes included, and a match of the rule begins
    no more than that many bytes before the end of it. With `bounded` the scanner examines the byte before a match too.
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
    trigger: str = ""
    before: int = 0
    bounded: bool = False


class RuleFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of rules."""

    title: str = ""
    rules: list[RawRule] = []
    allowlist: Allow | None = None
    allowlists: list[Allow] = []
    wrapped: Wrapped = Wrapped()


class Exemption(msgspec.Struct, frozen=True):
    """An allow-list, compiled."""

    regexes: tuple[re.Pattern[bytes], ...]
    stopwords: tuple[bytes, ...]
    paths: tuple[re.Pattern[str], ...]
    target: str
    every: bool
    rules: frozenset[str]

    def applies(self, secret: bytes, match: bytes, line: bytes, path: str) -> bool:
        """Return whether a match is no secret."""
        text = match if self.target == "match" else line if self.target == "line" else secret
        answers = []
        if self.stopwords:
            lowered = secret.lower()
            answers.append(any(map(lowered.__contains__, self.stopwords)))
        if self.regexes:
            answers.append(any(_finder(regex)(text) for regex in self.regexes))
        if self.paths:
            answers.append(bool(path) and any(regex.search(path) for regex in self.paths))
        return bool(answers) and (all(answers) if self.every else any(answers))


@functools.cache
def _finder(regex: re.Pattern[bytes]) -> Callable[[bytes], re.Match[bytes] | None]:
    """Return the fastest method that searches for an expression: `search` tries an anchored one at each byte."""
    try:
        return regex.match if is_anchored(regex.pattern) else regex.search
    except ValueError:  # back-references and the like, which only `re` knows
        return regex.search


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule, ready to be used."""

    id: str
    description: str
    pattern: bytes
    shape: Shape
    margin: int
    """Bytes before a match that may decide on it."""
    steady: bool
    """Whether what it refuses for its value, it refuses wherever that stands."""
    bounded: bool
    parts: re.Pattern[bytes] | None
    """What of a secret is masked; None for all of it."""
    entropy: float
    keywords: tuple[bytes, ...]
    group: int
    path: re.Pattern[str] | None
    exemptions: tuple[Exemption, ...]
    source: tuple[str, ...]
    """Everything that decides what is found, as it was written."""
    match: tuple[str, ...] = ()
    miss: tuple[str, ...] = ()
    contextual: bool = False
    """Whether the words around a value make it a secret, and not its own form."""

    @property
    def regex(self) -> re.Pattern[bytes]:
        """The expression, compiled where it is first tried: most rules never are."""
        return _compiled(self.pattern)


_compiled = functools.cache(re.compile)


class RuleSet(msgspec.Struct, frozen=True):
    """Rules in the order of their precedence, and the beginnings that are looked for in base64."""

    rules: tuple[Rule, ...]
    wrapped: tuple[str, ...]


def load_rules(text: str | None = None, *, file: str | None = None) -> RuleSet:
    """Read rules from TOML; ours without an argument.

    Raises: ConfigError that names the file and the rule.
    """
    ours = text is None
    if text is None:
        text = read_ours().decode()
    try:
        parsed = msgspec.convert(tomllib.loads(text), RuleFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(str(error), file=file, hint="the fields are those of gitleaks' configuration") from error
    general = tuple(_exemption(allow, file) for allow in _allows(parsed.allowlist, parsed.allowlists))
    # A rule with a path and no expression is about files that we don't read.
    rules = tuple(_rule(raw, general, file) for raw in parsed.rules if raw.regex)
    if not ours:  # whether ours can be compiled, tests say
        for rule in rules:
            _check(rule, file)
    forget()
    return RuleSet(rules, tuple(parsed.wrapped.prefixes))


def merge_rules(sets: list[RuleSet], dropped: frozenset[str]) -> tuple[Rule, ...]:
    """Return the rules of several sets; a later rule replaces an earlier one of the same id, as gitleaks' `extend`."""
    merged: dict[str, Rule] = {}
    for rule_set in sets:
        merged.update((rule.id, rule) for rule in rule_set.rules)
    return tuple(rule for rule in merged.values() if rule.id not in dropped)


def _allows(one: Allow | None, many: Iterable[Allow]) -> list[Allow]:
    return [*([one] if one else []), *many]


def _rule(raw: RawRule, general: tuple[Exemption, ...], file: str | None) -> Rule:
    pattern = from_go(raw.regex).encode()
    try:
        shape = derive(pattern, b"" if raw.before else from_go(raw.trigger).encode())
        if raw.before:
            re.compile(raw.trigger.encode())
            shape = msgspec.structs.replace(shape, scanned=raw.trigger, before=raw.before)
        path = re.compile(from_go(raw.path)) if raw.path else None
    except _BAD as error:
        raise _bad(raw.id, error, file) from error
    own = tuple(_exemption(allow, file) for allow in _allows(raw.allowlist, raw.allowlists))
    exemptions = own + tuple(one for one in general if not one.rules or raw.id in one.rules)
    return Rule(
        id=raw.id,
        description=raw.description,
        pattern=pattern,
        shape=shape,
        margin=LOOK_BEHIND + (KEYWORD_REACH if raw.keywords else 0),
        steady=not any(one.paths or one.target in ("match", "line") for one in exemptions),
        bounded=raw.bounded,
        parts=re.compile(raw.parts.encode()) if raw.parts else None,
        entropy=raw.entropy,
        keywords=tuple(word.lower().encode() for word in raw.keywords),
        group=raw.secret_group,
        path=path,
        exemptions=exemptions,
        source=_source(raw, exemptions),
        match=tuple(raw.match),
        miss=tuple(raw.miss),
        contextual=bool(raw.keywords) or any(one.rules for one in exemptions),
    )


def _check(rule: Rule, file: str | None) -> None:
    """Find out what is wrong with an expression before it is tried. Raises: ConfigError."""
    try:
        groups = rule.regex.groups
    except _BAD as error:
        raise _bad(rule.id, error, file) from error
    if rule.group > groups:
        raise ConfigError("there is no such group", file=file, key=f"rules.{rule.id}.secretGroup")


_BAD = (re.error, ValueError, RecursionError, OverflowError)


def _bad(rule: str, error: Exception, file: str | None) -> ConfigError:
    hint = "it has to match a character at least, without back-references"
    return ConfigError(str(error), file=file, key=f"rules.{rule}.regex", hint=hint)


def _source(raw: RawRule, exemptions: tuple[Exemption, ...]) -> tuple[str, ...]:
    allowed = [
        repr((e.target, e.every, e.stopwords, *(r.pattern for r in e.regexes), *(p.pattern for p in e.paths)))
        for e in exemptions
    ]
    return (raw.id, raw.regex, raw.path, raw.parts, repr((raw.entropy, raw.keywords, raw.secret_group)), *allowed)


def _exemption(allow: Allow, file: str | None) -> Exemption:
    try:
        return Exemption(
            regexes=tuple(re.compile(from_go(regex).encode()) for regex in allow.regexes),
            stopwords=tuple(word.lower().encode() for word in allow.stopwords),
            paths=tuple(re.compile(from_go(path)) for path in allow.paths),
            target=allow.regex_target,
            every=allow.condition.upper() in ("AND", "&&"),
            rules=frozenset(allow.target_rules),
        )
    except re.error as error:
        raise ConfigError(str(error), file=file, key="allowlist") from error


_POSIX = {
    "[:alnum:]": "0-9A-Za-z", "[:alpha:]": "A-Za-z", "[:digit:]": "0-9", "[:lower:]": "a-z", "[:upper:]": "A-Z",
    "[:space:]": r"\s", "[:word:]": r"\w", "[:xdigit:]": "0-9A-Fa-f", "[:punct:]": r"!-/:-@\[-`{-~",
}  # fmt: skip
_PIECE = re.compile(r"\\.|\[\^?\]?|\]|\(\?[a-z]+\)|\(\?P?<[A-Za-z_]\w*>|\(|\)|\[:[a-z]+:\]|.", re.DOTALL)


def from_go(regex: str) -> str:
    r"""Rewrite an expression in Go's syntax in Python's: POSIX classes, `\z`, and flags that begin in the middle."""
    for name, members in _POSIX.items():
        regex = regex.replace(name, members)
    out: list[str] = []
    opened = [0]  # for each open group, how many flag groups of ours end with it
    in_class = False
    for piece in _PIECE.findall(regex):
        if in_class:
            in_class = piece != "]"
            out.append(piece)
        elif piece == r"\z":
            out.append(r"\Z")
        elif piece.startswith("[") and not piece.startswith("[:"):
            in_class = True
            out.append(piece)
        elif piece.startswith("(?") and piece.endswith(")"):
            out.append(f"(?{piece[2:-1]}:")
            opened[-1] += 1
        elif piece.startswith("("):
            opened.append(0)
            out.append(piece.replace("(?<", "(?P<"))
        elif piece == ")" and len(opened) > 1:
            out.append(")" * (opened.pop() + 1))
        else:
            out.append(piece)
    return "".join(out) + ")" * opened[0]
