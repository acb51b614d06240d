"""Finds secrets in bytes: scans for triggers, confirms what they report, and stays within a budget of work."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator

import msgspec

from sessiond.redact.arguments import ARGUMENT_TRIGGER, without_separators
from sessiond.redact.budget import HITS_OF_A_PART, OVERLAP_OF_WINDOWS, Budget, OverBudgetError, windows
from sessiond.redact.compiled import trigger_matcher
from sessiond.redact.confirm import Case, Judge, Span, confirm
from sessiond.redact.cover import fit
from sessiond.redact.encoded import ENCODED_TRIGGER, without_encoding
from sessiond.redact.flood import region
from sessiond.redact.keys import KEY_TRIGGER, KeyLines
from sessiond.redact.known import Known
from sessiond.redact.layout import COLOUR_TRIGGER, View, Wraps, without_colours, without_wraps
from sessiond.redact.parts import divide, part_ranges
from sessiond.redact.rules import Rule
from sessiond.redact.scanner import Hits, Scanner, Trigger
from sessiond.redact.shape import LONGEST_MATCH
from sessiond.redact.sight import Sight
from sessiond.redact.tables import TABLE_TRIGGER, columns_of_secrets
from sessiond.redact.text import blank
from sessiond.redact.triggers import share_triggers
from sessiond.redact.values import entropy
from sessiond.redact.wrapped import Fragment, rewrap, unwrap

PRIVATE_KEY = "private-key"
FLOOD = -2
"""The rank of a span that is a window with too many places, before all others."""
FEW = 64
"""Hits of a window up to which they are confirmed at once, in any order."""
COLOURS, KEYS, NAMED, BEGUN, ARGUMENTS, ENCODED, TABLES = range(7)
"""Triggers of what divides or hides a secret. Their numbers follow those of the rules and of Base64."""
UNCOLOURED, UNWRAPPED, WRAPPED = 1, 2, 3  # how far a text was derived; WRAPPED is decoded Base64


class Search(msgspec.Struct, gc=False):
    """A text to search, with the path that it comes from and the work that the search may take."""

    data: bytes
    path: str
    budget: Budget
    sight: Sight
    ranges: list[tuple[int, int]]
    """The parts of the data that are searched."""
    depth: int = 0
    """How the text was derived: 0 for captured bytes, or UNCOLOURED, UNWRAPPED or WRAPPED."""


class Detector:
    """Finds the secrets that a set of rules describes, and the values that the user named."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        fragments: tuple[Fragment, ...],
        known: Known | None,
        allows: Judge,
        make: Callable[[list[Trigger]], Scanner],
    ) -> None:
        """Prepare the triggers; `make` compiles them. `allows` returns whether a value is to be left as it is."""
        self.rules = rules
        self._fragments = fragments
        self._known = known if known else None
        self._allows = allows
        self._refused = [set[bytes]() for _ in rules]
        self._wraps = Wraps(rules)
        self._key_rule = next((number for number, rule in enumerate(rules) if rule.id == PRIVATE_KEY), None)
        wraps = (self._wraps.named, self._wraps.begun)
        self._layouts = (COLOUR_TRIGGER, KEY_TRIGGER, *wraps, ARGUMENT_TRIGGER, ENCODED_TRIGGER, TABLE_TRIGGER)
        self._shared = share_triggers(rules)
        self.scanner = make(self._triggers())

    def find(self, data: bytes, path: str, budget: Budget) -> list[Span]:
        """Return the secrets in a run of whole records."""
        spans: list[Span] = []
        search = Search(data, path, budget, Sight(data), [])
        for low, high in windows(data):
            budget.earn(high - low)
            try:
                self._find_in_range(search, low, high, budget, spans)
            except OverBudgetError:
                self._find_in_parts(search, low, high, spans)
        return spans

    def _find_in_range(self, search: Search, low: int, high: int, places: Budget, spans: list[Span]) -> None:
        """Add the secrets of a window, or of a part of one, to `spans`; `places` limits what may be reported in it.

        Raises: OverBudgetError.
        """
        data = search.data
        # Records have nothing in common: only within one the bytes before matter.
        begin = low if data[low : low + 1] == b"{" else max(0, low - OVERLAP_OF_WINDOWS)
        hits = self.scanner.scan(memoryview(data)[begin:high] if begin or high < len(data) else data, places)
        if hits:  # most records have none
            self._find_in_window(search, begin, high, hits, spans)
        if self._known is not None:
            spans += self._known.find(data, begin, high, places)

    def _find_in_parts(self, search: Search, low: int, high: int, spans: list[Span]) -> None:
        """Add the secrets of a window that has too many places, part by part; mask each part with too many."""
        divided = part_ranges(search.data, low, high)
        for start, end in divided:
            try:
                if len(divided) == 1:
                    raise OverBudgetError
                self._find_in_range(search, start, end, Budget(0, HITS_OF_A_PART), spans)
            except OverBudgetError:
                spans.append(self._flood(search.data, start, end))

    @staticmethod
    def _flood(data: bytes, low: int, high: int) -> Span:
        return Span(*region(data, low, high, LONGEST_MATCH), FLOOD, b"")

    def find_again(self, data: bytes, path: str, budget: Budget, parts: list[tuple[int, int]]) -> list[Span]:
        """Return the secrets in parts of the data that changed since it was searched."""
        search = Search(data, path, budget, Sight(data), parts)
        spans: list[Span] = []
        try:
            # Scanned in one go. A trigger that is met across two parts leads to places where no rule matches.
            joined = b"\n".join([data[low:high] for low, high in parts])
            budget.earn(len(joined))
            hits = self.scanner.scan(joined, budget)
            moved = {n: msgspec.structs.replace(hit, marks=shift_marks(hit.marks, parts)) for n, hit in hits.items()}
            self._confirm(search, moved, spans)
            if self._known is not None:
                # Nothing is confirmed here, so nothing may be met across two parts.
                for low, high in parts:
                    spans += self._known.find(data, low, high, budget)
        except OverBudgetError:
            spans += (self._flood(data, low, high) for low, high in parts)
        return spans

    def _triggers(self) -> list[Trigger]:
        triggers = [trigger for trigger, _ in self._shared]
        for fragment in self._fragments:
            expression = "".join(f"\\x{byte:02x}" for byte in fragment.text)
            triggers.append(Trigger(expression, len(fragment.text), len(fragment.text)))
        return triggers + [
            Trigger(expression, 0, 0, once=number == COLOURS)
            for number, expression in enumerate(self._layouts)
            if expression
        ]

    def _find_in_window(self, search: Search, begin: int, high: int, hits: dict[int, Hits], spans: list[Span]) -> None:
        """Add the secrets to `spans` that the hits in a window lead to.

        Of many hits, mask the parts that take too much work. Raises: OverBudgetError if few take too much.
        """
        search.ranges = [(begin, high)]
        if begin:
            hits = {n: msgspec.structs.replace(hit, marks=[m + begin for m in hit.marks]) for n, hit in hits.items()}
        coloured = len(self._shared) + len(self._fragments) + COLOURS in hits  # one hit stands for all colour codes
        if coloured or sum(len(hit.marks) for hit in hits.values()) <= FEW:
            self._confirm(search, hits, spans)
            return
        for part in divide(search.data, begin, high, hits):
            try:
                self._confirm(search, part.hits, spans)
            except OverBudgetError:
                spans.append(self._flood(search.data, part.low, part.high))

    def _find_in_text(self, search: Search) -> list[Span]:
        """Return the secrets in a text that was made of the data. Raises: OverBudgetError."""
        spans: list[Span] = []
        search.budget.spend(len(search.data) // 256 + 4)
        self._confirm(search, self.scanner.scan(search.data, search.budget), spans)
        if self._known is not None and search.depth < WRAPPED:
            spans += self._known.find(search.data, 0, len(search.data), search.budget)
        return spans

    def _confirm(self, search: Search, hits: dict[int, Hits], spans: list[Span]) -> None:
        """Add the secrets to `spans` that the hits of a scan lead to. Raises: OverBudgetError."""
        layouts: dict[int, list[int]] = {}
        first_fragment = len(self._shared)
        first_layout = first_fragment + len(self._fragments)
        found: list[Span] = []
        spend = search.budget.spend
        for index, hit in hits.items():
            if index < first_fragment:
                for number in self._shared[index][1]:
                    rule = self.rules[number]
                    case = Case(search.sight, search.path, rule, number, self._allows, self._refused[number], spend)
                    found += confirm(case, hit.marks, hit.low, hit.high, ends=hit.ends)
            elif index >= first_layout:
                number = index - first_layout
                layouts[number] = hit.marks if hit.ends else _find_ends(self._layouts[number], search.data, hit.marks)
            elif search.depth < WRAPPED:
                self._find_in_base64(search, index - first_fragment, hit, found)
        spans += found
        self._find_divided(search, layouts, found, spans)

    def _find_in_base64(self, search: Search, number: int, hit: Hits, found: list[Span]) -> None:
        for mark in hit.marks:
            begin, decoded = unwrap(search.data, mark - hit.low, self._fragments[number].skip)
            search.budget.spend(8)
            inner = Search(decoded, search.path, search.budget, Sight(decoded), [], WRAPPED)
            found += (rewrap(begin, span, search.data) for span in self._find_in_text(inner))

    def _find_divided(self, search: Search, marks: dict[int, list[int]], whole: list[Span], spans: list[Span]) -> None:
        """Add the secrets to `spans`, part by part, that colour codes, prefixes, line breaks or separators divide."""
        data, depth, spend = search.data, search.depth, search.budget.spend
        if KEYS in marks and depth < WRAPPED and self._key_rule is not None:
            keys = KeyLines(data, spend)
            for mark in marks[KEYS]:
                spans += self._key_spans(data, keys.around(mark))
        views: list[View] = []
        if COLOURS in marks and depth == 0:
            views += without_colours(data, search.ranges, spend)
        if depth < UNWRAPPED and (NAMED in marks or BEGUN in marks):
            named = frozenset(marks.get(NAMED, ()))
            ends = sorted(named.union(marks.get(BEGUN, ())))
            views += without_wraps(data, ends, self._wraps.begins, named, spend)
        if ARGUMENTS in marks and depth < WRAPPED:
            views += without_separators(data, marks[ARGUMENTS], spend)
        if ENCODED in marks and depth < UNWRAPPED:
            views += without_encoding(data, marks[ENCODED], spend)
        if TABLES in marks and depth < UNWRAPPED:
            views += columns_of_secrets(data, marks[TABLES], spend)
        if not views:
            return
        starts = {(span.start, span.rank) for span in whole}
        offsets, length = [], 0
        for view in views:
            offsets.append(length)
            length += len(view.text) + 2
        # One scan for all of them; nothing is found across the end of a record.
        text = b"\n{".join([view.text for view in views])
        derived = UNCOLOURED if depth == 0 and COLOURS in marks else UNWRAPPED
        for span in self._find_in_text(Search(text, search.path, search.budget, Sight(text), [], derived)):
            number = bisect.bisect_right(offsets, span.start) - 1
            spans += self._place(data, views[number], span, offsets[number], starts)

    def _place(self, data: bytes, view: View, span: Span, offset: int, starts: set[tuple[int, int]]) -> Iterator[Span]:
        """Iterate over the parts of a secret that was found in a view."""
        start, end = span.start - offset, span.end - offset
        if start < view.low or end > view.high:
            return
        if view.commands and not (span.rank >= 0 and self.rules[span.rank].command):
            return
        if view.widths:
            text = blank(view.text)
            rule = self.rules[span.rank] if span.rank >= 0 else None
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
        if entropy(identity) >= self.rules[self._key_rule].entropy:
            yield from (Span(start, end, self._key_rule, identity) for start, end in lines)


def shift_marks(marks: list[int], windows: list[tuple[int, int]]) -> list[int]:
    """Return marks in windows, a byte between each two, as they are in the whole."""
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


def _find_ends(expression: str, data: bytes, starts: list[int]) -> list[int]:
    """Return where the matches that begin at given positions end."""
    match = trigger_matcher(expression)
    return sorted({found.end() for start in starts if (found := match(data, start))})
