"""The redactor masks every secret in bytes and keeps their length.

Its only state are the compiled rules, which may be cached on disk. Several threads may use it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from sessiond.errors import ConfigError
from sessiond.redact.binary import find_runs, is_binary, join_runs, place_findings, replace_runs
from sessiond.redact.budget import FREE, Budget
from sessiond.redact.confirm import Span
from sessiond.redact.cover import cover, covered
from sessiond.redact.detector import FLOOD, Detector
from sessiond.redact.flood import mask_all
from sessiond.redact.known import Known
from sessiond.redact.pieces import Pieces
from sessiond.redact.policy import DENSE, Finding, Masked, Policy
from sessiond.redact.repeats import fold
from sessiond.redact.rules import Rule, RuleSet, load_rules, merge_rules
from sessiond.redact.scanner import make_scanner
from sessiond.redact.sight import KEYWORD_REACH
from sessiond.redact.utf16 import byte_orders, find_regions, put_back, to_narrow
from sessiond.redact.values import identify
from sessiond.redact.wrapped import Fragment, fragments

KNOWN = "known-secret"
"""The rule id of a value that the user named."""
_DIRTY = 4096  # bytes around a masked secret that are searched again: rules may find more there now
_ROUNDS = 4
_GENERATION = "9"  # of this engine; another one may find other secrets with the same rules


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
        """Prepare the rules; `engine` requires "hyperscan" or "re" instead of the fastest that is installed.

        Raises: ConfigError if the policy contradicts itself.
        """
        if policy.mode == "hash" and len(policy.key) < 16:
            raise ConfigError("a keyed hash needs a key of 16 bytes or more", key="redact")
        self._policy = policy
        self._key = policy.key[:64] if policy.mode == "hash" else None
        base = load_rules(cache_dir=cache_dir) if rules is None else rules
        wrapped = fragments(dict.fromkeys(p for s in (base, *policy.extra) for p in s.wrapped))
        merged = merge_rules([base, *policy.extra], policy.allow_rules)
        self.version = _name_version(policy, merged, wrapped)
        self._rules = merged
        self._detector: Detector | None = None
        if policy.mode != "off":
            known = Known(policy.secrets, engine)
            self._detector = Detector(
                merged, wrapped, known, self._allows, lambda triggers: make_scanner(triggers, cache_dir, engine)
            )

    @property
    def engine(self) -> str:
        """The name of the scanner: "hyperscan", "re", or "off"."""
        return self._detector.scanner.name if self._detector else "off"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in the order of their precedence."""
        return self._rules

    def mask(self, data: bytes, path: str = "") -> Masked:
        """Cover the secrets in a run of whole records; `path` is where they come from, for rules about paths."""
        if b"\0" not in data:  # in UTF-16, the letters of a secret have zeros between them
            return self._mask_records(data, path)
        wide = self._mask_utf_16(data, path)
        return _joined(wide, self._mask_records(wide.data, path))

    def _mask_records(self, data: bytes, path: str) -> Masked:
        detector = self._detector
        if detector is None or self._allowed_path(path):
            return Masked(data)
        folded = fold(data)
        if folded is not None:
            whole = folded.unfold(data, self._mask(detector, folded.data, path))
            if whole is not None:
                return whole
        return self._mask(detector, data, path)

    def mask_any(self, data: bytes, path: str = "") -> Masked:
        """Cover the secrets in a part of a file that may be binary; then, only text in it is searched."""
        wide = self._mask_utf_16(data, path)
        return _joined(wide, self._mask_parts(wide.data, path))

    def _mask_parts(self, data: bytes, path: str) -> Masked:
        if not is_binary(data):
            return self._mask_records(data, path)
        runs = find_runs(data)
        masked = self._mask_records(join_runs(data, runs), path)
        if not masked.findings:
            return Masked(data)
        return Masked(replace_runs(data, runs, masked.data), place_findings(runs, masked.findings))

    def _mask_utf_16(self, data: bytes, path: str) -> Masked:
        """Cover the secrets in what is text in UTF-16, in whichever order of bytes."""
        findings: tuple[Finding, ...] = ()
        for at in byte_orders(data):
            if regions := find_regions(data, at):
                narrow = to_narrow(data, regions, at)
                masked = put_back(data, regions, at, narrow, self.mask(narrow, path))
                data, findings = masked.data, findings + masked.findings
        return Masked(data, findings)

    def _mask(self, detector: Detector, data: bytes, path: str) -> Masked:
        """Cover the secrets in bytes that hold no long repeat."""
        spans = detector.find(data, path, Budget())
        if not spans:
            return Masked(data)
        findings: list[Finding] = []
        for _ in range(_ROUNDS):
            changed, data, dirty = self._cover(data, spans)
            if not changed:
                break
            findings += changed
            # A star may complete what was no match before; what is covered twice must not change again.
            spans = detector.find_again(data, path, Budget(FREE * 3 // 4), dirty) if dirty else []
        return Masked(data, tuple(sorted(findings)))

    def mask_pieces(self, pieces: Iterable[bytes], path: str = "") -> Iterator[Masked]:
        """Cover the secrets in one long run of bytes that comes in pieces, cut anywhere.

        The result is the same as that of `mask()` for the whole, in pieces of other lengths. In memory are at most the
        longest piece and twice `OVERLAP` bytes.
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

    def _cover(self, data: bytes, spans: list[Span]) -> tuple[list[Finding], bytes, list[tuple[int, int]]]:
        """Cover spans; those that overlap become one, named by the first rule in the order of precedence."""
        out: list[bytes] = []
        findings: list[Finding] = []
        dirty: list[tuple[int, int]] = []
        position = 0
        for span in _join(spans):
            if span.rank == FLOOD:
                replacement = mask_all(data, span.start, span.end)
                if replacement != data[span.start : span.end]:
                    out += (data[position : span.start], replacement)
                    position = span.end
                    findings.append(Finding(span.start, span.end - span.start, DENSE))
                continue
            secret = data[span.start : span.end]
            replacement = cover(data, span.start, span.end, self._key, span.identity)
            if replacement == secret or covered(secret, self._key is not None):
                continue
            out += (data[position : span.start], replacement)
            position = span.end
            rule = self._rules[span.rank].id if span.rank >= 0 else KNOWN
            findings.append(Finding(span.start, span.end - span.start, rule))
            # A rule examines only the record that a match is in.
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


def _joined(wide: Masked, rest: Masked) -> Masked:
    """Return the data of `rest`, which was made from that of `wide`, with the findings of both."""
    return Masked(rest.data, tuple(sorted((*wide.findings, *rest.findings)))) if wide.findings else rest


def _name_version(policy: Policy, rules: tuple[Rule, ...], wrapped: tuple[Fragment, ...]) -> str:
    """Return a digest of everything that decides what is found."""
    state = blake2b(digest_size=16, key=policy.key[:64])
    parts: list[str] = [_GENERATION, policy.mode, *sorted(policy.allow_hashes), *sorted(policy.allow_paths)]
    parts += [part for rule in rules for part in rule.source]
    parts += [fragment.text.decode() for fragment in wrapped]
    for part in parts:
        state.update(part.encode() + b"\0")
    for secret in sorted(policy.secrets):
        state.update(blake2b(secret, key=policy.key[:64]).digest())
    return state.hexdigest()


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
