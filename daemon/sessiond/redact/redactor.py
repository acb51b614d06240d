"""The redactor: bytes in, as many bytes out, with every secret covered.

Pure but for the compiled rules, which may be cached on disk. It may be used from several threads.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from sessiond.errors import ConfigError
from sessiond.redact.confirm import Case, Span, confirm, fragments, identify, rewrap, unwrap
from sessiond.redact.cover import cover, covered, fit
from sessiond.redact.known import known_triggers
from sessiond.redact.policy import Finding, Masked, Policy
from sessiond.redact.rules import Rule, RuleSet, load_rules
from sessiond.redact.scanner import Trigger, make_scanner
from sessiond.redact.shape import LONGEST_MATCH, write_class
from sessiond.redact.sight import KEYWORD_REACH, Sight

KNOWN = "known-secret"
"""The rule id of a value that the user named."""
OVERLAP = 2 * LONGEST_MATCH
"""What is held back, and looked at again, where one record comes in pieces."""
_DIRTY = 4096  # what was covered may change what is found so far around it
_ROUNDS = 4
_GENERATION = "1"  # of this engine; another one may find other secrets with the same rules


def digest(value: bytes) -> str:
    """Name a value that is no secret, for `Policy.allow_hashes`."""
    return blake2b(identify(value), digest_size=16).hexdigest()


class Redactor:
    """Covers secrets in bytes, as a policy says."""

    def __init__(
        self,
        policy: Policy,
        *,
        cache_dir: str | None = None,
        engine: str | None = None,
        rules: RuleSet | None = None,
    ) -> None:
        """Make the rules ready; `engine` asks for "hyperscan" or "re" where the choice is not free.

        Raises: ConfigError where the policy can't be followed.
        """
        if policy.mode == "hash" and len(policy.key) < 16:
            raise ConfigError("a keyed hash needs a key of 16 bytes or more", key="redact")
        self._policy = policy
        self._key = policy.key[:64] if policy.mode == "hash" else None
        base = load_rules() if rules is None else rules
        self._rules = _merge([base, *policy.extra], policy.allow_rules)
        self._refused = [set[bytes]() for _ in self._rules]
        self._fragments = fragments(dict.fromkeys(p for s in (base, *policy.extra) for p in s.wrapped))
        known, self._owners = known_triggers(policy.secrets)
        self._widths = [trigger.high for trigger in known]
        self.version = self._name_version()
        self.engine = "off"
        if policy.mode != "off":
            self._scanner = make_scanner(self._triggers(), cache_dir, engine)
            # Never cached: a compiled database holds its literals readable.
            self._known = make_scanner(known, None, engine) if known else None
            self.engine = self._scanner.name

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in the order of their precedence."""
        return self._rules

    def mask(self, data: bytes, path: str = "") -> Masked:
        """Cover the secrets in a run of whole records; `path` is where they come from, for rules about paths."""
        if self._policy.mode == "off" or self._allowed_path(path):
            return Masked(data)
        spans = self._find(data, None, path)
        findings: list[Finding] = []
        for _ in range(_ROUNDS):
            changed, data, dirty = self._cover(data, spans)
            if not changed:
                break
            findings += changed
            # A star may complete what was no match before; what is covered twice must not change again.
            spans = self._find(data, dirty, path)
        return Masked(data, tuple(sorted(findings)))

    def mask_pieces(self, pieces: Iterable[bytes], path: str = "") -> Iterator[Masked]:
        """Cover the secrets in one long run of bytes that comes in pieces, cut anywhere.

        What comes out is the same as of `mask()` over the whole, in pieces of other lengths. At most the
        longest piece and `OVERLAP` bytes twice are held.
        """
        long = self.pieces(path)
        for piece in pieces:
            masked = long.add(piece)
            if masked.data:
                yield masked
        masked = long.end()
        if masked.data:
            yield masked

    def pieces(self, path: str = "") -> Pieces:
        """Begin a long run of bytes that comes in pieces; see `mask_pieces`."""
        return Pieces(self, path)

    def _triggers(self) -> list[Trigger]:
        triggers = [
            Trigger(
                shape.trigger, shape.low, shape.high, rule.keywords, write_class(shape.front) if rule.bounded else ""
            )
            for rule, shape in ((rule, rule.shape) for rule in self._rules)
        ]
        for fragment in self._fragments:
            expression = "".join(f"\\x{byte:02x}" for byte in fragment.text)
            triggers.append(Trigger(expression, len(fragment.text), len(fragment.text)))
        return triggers

    def _find(self, data: bytes, windows: list[tuple[int, int]] | None, path: str, depth: int = 0) -> list[Span]:
        """Find the secrets whose trigger lies in the windows of the data, in order and apart; None means all of it."""
        spans: list[Span] = []
        sight = Sight(data)
        # Scanned in one go. A trigger that is met across two windows leads to places where no rule matches.
        part = data if windows is None else b"\n".join([data[low:high] for low, high in windows])
        for index, hits in self._scanner.scan(part).items():
            marks = hits.marks if windows is None else _move(hits.marks, windows)
            if index < len(self._rules):
                case = Case(sight, path, self._rules[index], index, self._allows, self._refused[index])
                spans += confirm(case, marks, hits.low, hits.high)
            elif depth == 0:
                skip = self._fragments[index - len(self._rules)].skip
                for mark in marks:
                    begin, decoded = unwrap(data, mark - hits.low, skip)
                    found = self._find(decoded, None, path, depth=1)
                    spans += (rewrap(begin, span, data) for span in found)
        if self._known is not None and depth == 0:
            # Nothing is confirmed here, so nothing may be met across two windows.
            for low, high in ((0, len(data)),) if windows is None else windows:
                for index, hits in self._known.scan(data[low:high]).items():
                    for mark in hits.marks:
                        place = mark - hits.low + low
                        start, end = fit(data, place, place + self._widths[index])
                        spans.append(Span(start, end, -1, self._owners[index]))
        return spans

    def _cover(self, data: bytes, spans: list[Span]) -> tuple[list[Finding], bytes, list[tuple[int, int]]]:
        """Cover spans; those that overlap become one, named by the first rule in the order of precedence."""
        out: list[bytes] = []
        findings: list[Finding] = []
        dirty: list[tuple[int, int]] = []
        position = 0
        for span in _join(spans):
            ink = cover(data, span.start, span.end, self._key, span.identity)
            if ink == data[span.start : span.end] or covered(data[span.start : span.end], self._key is not None):
                continue
            out += (data[position : span.start], ink)
            position = span.end
            rule = self._rules[span.rank].id if span.rank >= 0 else KNOWN
            findings.append(Finding(span.start, span.end - span.start, rule))
            # A rule sees its own record and no other one.
            low = max(0, data.rfind(b"\n{", max(0, span.start - _DIRTY), span.start) + 1, span.start - _DIRTY)
            high = min(len(data), span.end + KEYWORD_REACH + 64)
            high = data.find(b"\n{", span.end, high) + 1 or high
            if dirty and low <= dirty[-1][1]:
                dirty[-1] = (dirty[-1][0], high)
            else:
                dirty.append((low, high))
        if not findings:
            return [], data, []
        return findings, b"".join((*out, data[position:])), dirty

    def _allows(self, secret: bytes, identity: bytes) -> bool:
        allowed = self._policy.allow_hashes
        return covered(secret, self._key is not None) or (bool(allowed) and digest(identity) in allowed)

    def _allowed_path(self, path: str) -> bool:
        return bool(path) and any(fnmatch.fnmatchcase(path, glob) for glob in self._policy.allow_paths)

    def _name_version(self) -> str:
        state = blake2b(digest_size=16, key=self._policy.key[:64])
        policy = self._policy
        parts: list[str] = [_GENERATION, policy.mode, *sorted(policy.allow_hashes), *sorted(policy.allow_paths)]
        parts += [part for rule in self._rules for part in rule.source]
        parts += [fragment.text.decode() for fragment in self._fragments]
        for part in parts:
            state.update(part.encode() + b"\0")
        for secret in sorted(policy.secrets):
            state.update(blake2b(secret, key=self._policy.key[:64]).digest())
        return state.hexdigest()


class Pieces:
    """One long run of bytes, masked as it comes."""

    def __init__(self, redactor: Redactor, path: str) -> None:
        self._redactor = redactor
        self._path = path
        self._before = self._held = b""
        self._done = 0

    def add(self, piece: bytes) -> Masked:
        """Take the next piece, and give what nothing that follows can change; it may be empty."""
        self._held += piece
        if len(self._held) <= OVERLAP * 2:
            return Masked(b"")
        masked = self._redactor.mask(self._before + self._held, self._path)
        skipped = len(self._before)
        cut = _choose_cut(masked, skipped, len(self._held))
        given = _slice(masked, skipped, skipped + cut, self._done)
        self._done += cut
        whole = self._before + self._held
        self._before, self._held = whole[max(0, skipped + cut - OVERLAP) : skipped + cut], self._held[cut:]
        return given

    def end(self) -> Masked:
        """Give the rest."""
        masked = self._redactor.mask(self._before + self._held, self._path)
        skipped = len(self._before)
        given = _slice(masked, skipped, skipped + len(self._held), self._done)
        self._done += len(self._held)
        self._before = self._held = b""
        return given


def _move(marks: list[int], windows: list[tuple[int, int]]) -> list[int]:
    """Move marks in windows, a byte between each two, to where they are in the whole."""
    moved: list[int] = []
    each = iter(windows)
    low, high = next(each)
    shift, last = low, high - low
    for mark in marks:
        while mark > last:
            low, high = next(each)
            shift, last = low - last - 1, last + 1 + high - low
        moved.append(mark + shift)
    return moved


def _choose_cut(masked: Masked, skipped: int, length: int) -> int:
    """Choose how much may go: all but the overlap, and never a part of a secret."""
    cut = skipped + length - OVERLAP
    for finding in masked.findings:
        if finding.start < cut < finding.start + finding.length:
            cut = finding.start
    return max(0, cut - skipped)


def _merge(sets: list[RuleSet], dropped: frozenset[str]) -> tuple[Rule, ...]:
    """Put rule sets together: a later rule replaces an earlier one of the same id, as gitleaks' `extend` does."""
    merged: dict[str, Rule] = {}
    for rule_set in sets:
        merged.update((rule.id, rule) for rule in rule_set.rules)
    return tuple(rule for rule in merged.values() if rule.id not in dropped)


def _join(spans: list[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.start < joined[-1].end:
            last = joined[-1]
            first = min(last, span, key=lambda one: (one.start - one.end, one.rank))
            joined[-1] = Span(last.start, max(last.end, span.end), min(last.rank, span.rank), first.identity)
        else:
            joined.append(span)
    return joined


def _slice(masked: Masked, start: int, end: int, done: int) -> Masked:
    findings = tuple(
        Finding(finding.start - start + done, finding.length, finding.rule)
        for finding in masked.findings
        if start <= finding.start < end
    )
    return Masked(masked.data[start:end], findings)
