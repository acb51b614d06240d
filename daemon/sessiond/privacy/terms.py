"""The settings of masking: the policy, the user's own rules and known secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from hashlib import blake2b
from itertools import pairwise

import msgspec

from sessiond.config import Config
from sessiond.errors import ConfigError
from sessiond.redact.policy import Policy, read_ours

LARGEST = 1 << 20
"""Largest file of rules or secrets in bytes; a larger one was named by mistake."""

_NAMED = re.compile(r"""\s*(?:export\s+)?["']?([\w.-]+)["']?\s*[=:]\s*(.+?)\s*,?\s*""")
_SECRET = re.compile(r"(?i)key|token|secret|pass|pwd|cred|auth")


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What to mask and how. The user's rules are still text; they are compiled with the first byte that is masked."""

    policy: Policy = Policy(mode="off")
    rules: tuple[tuple[str, str], ...] = ()
    """(file, its text) of the user's rules."""
    key: bytes = b""
    hash_paths: bool = False
    version: str = ""

    def complete(self, cache_dir: str | None = None) -> Policy:
        """Return the policy with the user's rules; what is derived from them is cached in `cache_dir`.

        Raises: ConfigError that names the file and the rule.
        """
        from sessiond.redact.rules import load_rules

        extra = tuple(load_rules(text, file=file, cache_dir=cache_dir) for file, text in self.rules)
        return msgspec.structs.replace(self.policy, extra=extra)

    def check(self, cache_dir: str | None = None) -> None:
        """Check the rules and settings that are otherwise read later. Raises: ConfigError."""
        from sessiond.redact.rules import load_rules

        policy = self.complete(cache_dir)
        known = {rule.id for rules in (load_rules(cache_dir=cache_dir), *policy.extra) for rule in rules.rules}
        for name in sorted(policy.allow_rules - known):
            raise ConfigError(f'there is no rule "{name}"', key="redaction.allow_rules", hint=_near(name, known))


def read_terms(config: Config, environ: Mapping[str, str], key: bytes, secrets: tuple[bytes, ...] = ()) -> Terms:
    """Return the settings of a configuration; `key` is this installation's, `secrets` are the daemon's own.

    Raises: ConfigError for a file of rules that can't be read.
    """
    wanted = config.redaction
    home = environ.get("HOME") or os.path.expanduser("~")
    rules = tuple((path, _text(path, "redaction.rules")) for path in wanted.rules) if config.redact != "off" else ()
    named = {secret for entry in wanted.secrets_from for secret in _secrets(entry, environ, home)}
    policy = Policy(
        mode=config.redact,
        key=key,
        secrets=tuple(sorted(named | set(secrets))),
        allow_rules=frozenset(wanted.allow_rules),
        allow_hashes=frozenset(wanted.allow_hashes),
        allow_paths=tuple(_expanded(glob, home) for glob in wanted.allow_paths),
    )
    return Terms(
        policy=policy, rules=rules, key=key, hash_paths=config.hash_paths, version=_version(policy, rules, config)
    )


def has_only_built_in_rules(config: Config) -> bool:
    """Return whether the user has named no rules and no secrets, which could match any text."""
    return not config.redaction.rules and not config.redaction.secrets_from


def _version(policy: Policy, rules: tuple[tuple[str, str], ...], config: Config) -> str:
    """Return the version of the terms without compiling the rules, which would delay a start by 190 ms."""
    if policy.mode == "off":
        return "off"
    state = blake2b(digest_size=16, key=policy.key[:64])
    ours = read_ours()
    parts = [policy.mode, *sorted(policy.allow_rules), *sorted(policy.allow_hashes), *policy.allow_paths]
    for part in (ours, *(text.encode("utf-8", "replace") for _, text in rules), *map(os.fsencode, parts)):
        state.update(len(part).to_bytes(8, "big") + part)
    for secret in policy.secrets:
        state.update(blake2b(secret, key=policy.key[:64]).digest())
    return f"{state.hexdigest()}{'p' if config.hash_paths else ''}"


def _secrets(entry: str, environ: Mapping[str, str], home: str) -> Iterator[bytes]:
    """Iterate the values that one entry of `secrets_from` names; a missing file has none."""
    if entry.startswith("env:"):
        glob = entry.removeprefix("env:")
        yield from (os.fsencode(value) for name, value in environ.items() if value and fnmatchcase(name, glob))
        return
    path = _expanded(entry, home)
    if not os.path.exists(path):
        return
    text = _text(path, "redaction.secrets_from")
    found = _netrc(text) if os.path.basename(path) in (".netrc", "_netrc", ".authinfo") else _values(text)
    yield from (os.fsencode(value) for value in found)


def _netrc(text: str) -> Iterator[str]:
    words = text.split()
    for name, value in pairwise(words):
        if name == "password":
            yield value.strip('"')


def _values(text: str) -> Iterator[str]:
    """Iterate the values whose NAME= or name: sounds secret, and lines of one word (a token file)."""
    for line in text.splitlines():
        named = _NAMED.fullmatch(line)
        if named is not None and _SECRET.search(named[1]):
            yield named[2].strip("\"'")
        elif named is None and line.strip() and len(line.split()) == 1 and line.strip()[0] not in "#[;{}":
            yield line.strip().strip("\"'")


def _text(path: str, key: str) -> str:
    try:
        # With an opener the descriptor is closed on an error too: the path may be a directory.
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            content = file.read(LARGEST + 1) or b""  # None for a pipe that another process has open
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ConfigError(f"can't be read: {reason}", file=path, key=key) from error
    if len(content) > LARGEST:
        raise ConfigError("is too large", file=path, key=key)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", file=path, key=key) from error


def _expanded(path: str, home: str) -> str:
    return home + path[1:] if path.startswith("~/") else path


def _near(name: str, known: set[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f'did you mean "{near[0]}"?' if near else "`sessiond redact rules` lists them"
