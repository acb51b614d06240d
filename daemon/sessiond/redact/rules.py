"""Rules: what a secret looks like, in the fields of gitleaks' configuration.

Ours are in rules.toml beside this file; a user's are read from any gitleaks TOML. An expression is
applied to text whose escapes are blanked (text.py), so it is written for plain text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable

import msgspec

from sessiond.errors import ConfigError
from sessiond.redact.go_syntax import from_go
from sessiond.redact.policy import read_ours
from sessiond.redact.rule_file import BAD, Allow, RawRule, bad_rule, prepare_rules
from sessiond.redact.shape import Shape
from sessiond.redact.sight import KEYWORD_REACH, LOOK_BEHIND
from sessiond.redact.syntax import is_anchored


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
    """Whether a value that it refuses is refused in every place."""
    bounded: bool
    inside: int
    calls: bool
    """Where in the value the trigger ends; 0 if that is not known."""
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
    command: bool = False
    """Whether it describes a command, whose arguments may be in a list."""

    @property
    def regex(self) -> re.Pattern[bytes]:
        """The expression, compiled where it is first tried: most rules never are."""
        return _compiled(self.pattern)


_compiled = functools.cache(re.compile)


class RuleSet(msgspec.Struct, frozen=True):
    """Rules in the order of their precedence, and the beginnings that are looked for in base64."""

    rules: tuple[Rule, ...]
    wrapped: tuple[str, ...]


def load_rules(text: str | None = None, *, file: str | None = None, cache_dir: str | None = None) -> RuleSet:
    """Read rules from TOML; ours without an argument. What is derived from them is cached in `cache_dir`.

    Raises: ConfigError that names the file and the rule.
    """
    ours = text is None
    if text is None:
        text = read_ours().decode()
    # Tests compile our own expressions: no start has to.
    prepared = prepare_rules(text, file=file, cache_dir=cache_dir, check=not ours)
    parsed = prepared.file
    general = tuple(_exemption(allow, file) for allow in _allows(parsed.allowlist, parsed.allowlists))
    rules = tuple(
        _rule(raw, pattern, shape, general, file)
        for raw, pattern, shape in zip(parsed.rules, prepared.patterns, prepared.shapes, strict=True)
    )
    return RuleSet(rules, tuple(parsed.wrapped.prefixes))


def merge_rules(sets: list[RuleSet], dropped: frozenset[str]) -> tuple[Rule, ...]:
    """Return the rules of several sets; a later rule replaces an earlier one of the same id, as gitleaks' `extend`."""
    merged: dict[str, Rule] = {}
    for rule_set in sets:
        merged.update((rule.id, rule) for rule in rule_set.rules)
    return tuple(rule for rule in merged.values() if rule.id not in dropped)


def _allows(one: Allow | None, many: Iterable[Allow]) -> list[Allow]:
    return [*([one] if one else []), *many]


def _rule(raw: RawRule, pattern: bytes, shape: Shape, general: tuple[Exemption, ...], file: str | None) -> Rule:
    try:
        path = re.compile(from_go(raw.path)) if raw.path else None
    except BAD as error:
        raise bad_rule(raw.id, error, file) from error
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
        inside=raw.inside,
        calls=raw.calls,
        parts=re.compile(raw.parts.encode()) if raw.parts else None,
        entropy=raw.entropy,
        keywords=tuple(word.lower().encode() for word in raw.keywords),
        group=raw.secret_group,
        path=path,
        exemptions=exemptions,
        source=_source(raw, exemptions),
        match=tuple(raw.match),
        miss=tuple(raw.miss),
        command=raw.command,
        contextual=bool(raw.keywords) or any(one.rules for one in exemptions),
    )


def _source(raw: RawRule, exemptions: tuple[Exemption, ...]) -> tuple[str, ...]:
    allowed = [
        repr((e.target, e.every, e.stopwords, *(r.pattern for r in e.regexes), *(p.pattern for p in e.paths)))
        for e in exemptions
    ]
    return (
        raw.id,
        raw.regex,
        raw.path,
        raw.parts,
        repr((raw.entropy, raw.keywords, raw.secret_group, raw.command)),
        *allowed,
    )


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
