"""The redactor: bytes in, as many bytes out, with every secret covered.

Pure but for the compiled rules, which may be cached on disk. It may be used from several threads.
"""

from __future__ import annotations

import bisect
import fnmatch
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from sessiond.errors import ConfigError
from sessiond.redact.confirm import Case, Span, confirm, entropy, identify
from sessiond.redact.cover import cover, covered, fit
from sessiond.redact.keys import KEY_TRIGGER, key_lines
from sessiond.redact.known import known_triggers
from sessiond.redact.layout import COLOUR_TRIGGER, View, Wraps, find_ends, without_colours, without_wraps
from sessiond.redact.pieces import Pieces
from sessiond.redact.policy import Finding, Masked, Policy
from sessiond.redact.repeats import fold
from sessiond.redact.rules import Rule, RuleSet, load_rules, merge_rules
from sessiond.redact.scanner import Trigger, make_scanner
from sessiond.redact.sight import KEYWORD_REACH, Sight
from sessiond.redact.text import blank
from sessiond.redact.wrapped import fragments, rewrap, unwrap

KNOWN = "known-secret"
"""The rule id of a value that the user named."""
PRIVATE_KEY = "private-key"
COLOURS, KEYS, NAMED, BEGUN = range(4)  # what divides a secret: the triggers behind those of the rules and of base64
UNCOLOURED, UNWRAPPED, WRAPPED = 1, 2, 3  # how far a text was derived; WRAPPED is decoded base64
_DIRTY = 4096  # what was covered may change what is found so far around it
_ROUNDS = 4
_GENERATION = "1"  # of this engine; another one may find other secrets with the same rules


def digest(value: bytes) -> str:
    """Return the digest of a value that is no secret, for `Policy.allow_hashes`."""
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
        self._rules = merge_rules([base, *policy.extra], policy.allow_rules)
        self._refused = [set[bytes]() for _ in self._rules]
        self._fragments = fragments(dict.fromkeys(p for s in (base, *policy.extra) for p in s.wrapped))
        self._wraps = Wraps(self._rules)
        self._key_rule = next((i for i, rule in enumerate(self._rules) if rule.id == PRIVATE_KEY), None)
        known, self._owners = known_triggers(policy.secrets)
        self._widths = [trigger.high for trigger in known]
        self.version = self._name_version()
        self.engine = "off"
        if policy.mode != "off":
            self._layouts = (COLOUR_TRIGGER, KEY_TRIGGER, self._wraps.named, self._wraps.begun)
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
        folded = fold(data)
        if folded is not None:
            whole = folded.unfold(data, self._mask(folded.data, path))
            if whole is not None:
                return whole
        return self._mask(data, path)

    def _mask(self, data: bytes, path: str) -> Masked:
        """Cover the secrets in bytes that hold no long repeat."""
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
            Trigger(shape.scanned, 0, shape.before, rule.keywords, before=shape.before)
            if shape.scanned
            else Trigger(shape.trigger, shape.low, shape.high, rule.keywords, shape.front if rule.bounded else "")
            for rule, shape in ((rule, rule.shape) for rule in self._rules)
        ]
        for fragment in self._fragments:
            expression = "".join(f"\\x{byte:02x}" for byte in fragment.text)
            triggers.append(Trigger(expression, len(fragment.text), len(fragment.text)))
        return triggers + [Trigger(expression, 0, 0) for expression in self._layouts if expression]

    def _find(self, data: bytes, windows: list[tuple[int, int]] | None, path: str, depth: int = 0) -> list[Span]:
        """Find the secrets whose trigger lies in the windows of the data, in order and apart; None means all of it."""
        spans: list[Span] = []
        layouts: dict[int, list[int]] = {}
        sight = Sight(data)
        # Scanned in one go. A trigger that is met across two windows leads to places where no rule matches.
        part = data if windows is None else b"\n".join([data[low:high] for low, high in windows])
        for index, hits in self._scanner.scan(part).items():
            marks = hits.marks if windows is None else _move(hits.marks, windows)
            if index < len(self._rules):
                case = Case(sight, path, self._rules[index], index, self._allows, self._refused[index])
                spans += confirm(case, marks, hits.low, hits.high)
            elif index >= len(self._rules) + len(self._fragments):
                number = index - len(self._rules) - len(self._fragments)
                layouts[number] = marks if hits.ends else find_ends(self._layouts[number], data, marks)
            elif depth < WRAPPED:
                skip = self._fragments[index - len(self._rules)].skip
                for mark in marks:
                    begin, decoded = unwrap(data, mark - hits.low, skip)
                    found = self._find(decoded, None, path, WRAPPED)
                    spans += (rewrap(begin, span, data) for span in found)
        spans += self._find_broken(data, layouts, spans, path, depth)
        if self._known is not None and depth < WRAPPED:
            # Nothing is confirmed here, so nothing may be met across two windows.
            for low, high in ((0, len(data)),) if windows is None else windows:
                for index, hits in self._known.scan(data[low:high]).items():
                    for mark in hits.marks:
                        place = mark - hits.low + low
                        start, end = fit(data, place, place + self._widths[index])
                        spans.append(Span(start, end, -1, self._owners[index]))
        return spans

    def _find_broken(
        self, data: bytes, marks: dict[int, list[int]], whole: list[Span], path: str, depth: int
    ) -> list[Span]:
        """Return the secrets that colour codes, line prefixes or line breaks divide, part by part."""
        spans: list[Span] = []
        if KEYS in marks and depth < WRAPPED and self._key_rule is not None:
            for mark in marks[KEYS]:
                spans += self._key_spans(data, key_lines(data, mark))
        views: list[View] = []
        if COLOURS in marks and depth == 0:
            views += without_colours(data, marks[COLOURS])
        if depth < UNWRAPPED and (NAMED in marks or BEGUN in marks):
            named = frozenset(marks.get(NAMED, ()))
            ends = sorted(named.union(marks.get(BEGUN, ())))
            views += without_wraps(data, ends, self._wraps.begins, named)
        if views:
            starts = {(span.start, span.rank) for span in whole}
            inner = UNCOLOURED if depth == 0 and COLOURS in marks else UNWRAPPED
            offsets, length = [], 0
            for view in views:
                offsets.append(length)
                length += len(view.text) + 2
            # One scan for all of them; nothing is found across the end of a record.
            for span in self._find(b"\n{".join([view.text for view in views]), None, path, inner):
                number = bisect.bisect_right(offsets, span.start) - 1
                spans += self._place(data, views[number], span, offsets[number], starts)
        return spans

    def _place(self, data: bytes, view: View, span: Span, offset: int, starts: set[tuple[int, int]]) -> Iterator[Span]:
        """Iterate over the parts of a secret that was found in a view."""
        start, end = span.start - offset, span.end - offset
        if start < view.low or end > view.high:
            return
        if view.widths:
            text = blank(view.text)
            rule = self._rules[span.rank] if span.rank >= 0 else None
            first = next(view.ranges(start, end))[0]

            def complete(start: int, cut: int) -> bool:
                if rule is None or (first, span.rank) in starts:
                    return True
                return not rule.contextual and rule.regex.match(text, start, cut) is not None

            end = view.trim(start, end, complete, contextual=rule is None or rule.contextual)
        ranges = list(view.ranges(start, end))
        if view.widths and len(ranges) < 2:
            return
        for part in ranges:
            low, high = fit(data, *part)
            if high > low:
                yield Span(low, high, span.rank, span.identity)

    def _key_spans(self, data: bytes, lines: list[tuple[int, int]]) -> Iterator[Span]:
        identity = b"".join([data[start:end] for start, end in lines])
        if self._key_rule is None or not identity or self._allows(identity, identity):
            return
        if entropy(identity) >= self._rules[self._key_rule].entropy:
            yield from (Span(start, end, self._key_rule, identity) for start, end in lines)

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
