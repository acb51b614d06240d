"""The steps of a trajectory while it is made: the last ones in memory, all others in a file."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import msgspec

from sessiond.session import Usage
from sessiond.transcript.spilled import Spilled
from sessiond.transcript.texts import Texts
from sessiond.transcript.trajectory import Metrics, Step

WINDOW = 64
"""Steps that are in memory, and may be changed at no cost."""


class _Entry(msgspec.Struct):
    """A step, and the tokens of its responses in their last state, by the key of the response."""

    step: Step
    usages: dict[str, Usage] = {}


class Steps:
    """Steps by their number, from 1 on. Those that `change` and `usages` return may be changed until the next call."""

    def __init__(self, texts: Texts) -> None:
        """`texts` has the file."""
        self._kept = Spilled[_Entry](texts, _encode, _decode, in_memory=0)
        self._window: OrderedDict[int, _Entry] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Step]:
        """Iterate the steps, with the sums of their tokens. Raises: OSError."""
        for number in range(1, self._count + 1):
            entry = self._entry(number)
            if entry.usages:
                entry.step.metrics = _metrics(list(entry.usages.values()))
            yield entry.step

    def append(self, step: Step) -> None:
        """Add a step. Raises: OSError, for example if the disk is full."""
        self._count += 1
        self._add(self._count, _Entry(step, {}))

    def last(self) -> Step | None:
        """Return the last step; None if there is none yet."""
        return self.change(self._count) if self._count else None

    def change(self, number: int) -> Step:
        """Return a step to change it. Raises: OSError."""
        return self._recent(number).step

    def usages(self, number: int) -> dict[str, Usage]:
        """Return the tokens of the responses of a step, to change them. Raises: OSError."""
        return self._recent(number).usages

    def _entry(self, number: int) -> _Entry:
        found = self._window.get(number) or self._kept[number - 1]
        assert found is not None
        return found

    def _recent(self, number: int) -> _Entry:
        entry = self._entry(number)
        if number in self._window:
            self._window.move_to_end(number)
        else:
            self._add(number, entry)
        return entry

    def _add(self, number: int, entry: _Entry) -> None:
        self._window[number] = entry
        if len(self._window) > WINDOW:
            oldest, evicted = self._window.popitem(last=False)
            # Steps leave the window in any order, but the list grows in theirs.
            while len(self._kept) < oldest:
                self._kept.append(evicted if len(self._kept) == oldest - 1 else self._window[len(self._kept) + 1])
            self._kept[oldest - 1] = evicted


def _encode(entry: _Entry) -> bytes:
    return pickle.dumps(entry, pickle.HIGHEST_PROTOCOL)


def _decode(packed: bytes) -> _Entry:
    entry: _Entry = pickle.loads(packed)  # noqa: S301 - this process wrote it, to a file without a name
    return entry


def _metrics(usages: Sequence[Usage]) -> Metrics:
    written, reasoning = sum(each.cache_write for each in usages), sum(each.reasoning for each in usages)
    given = {"cache_creation_tokens": written, "reasoning_tokens": reasoning}
    costs = [each.cost for each in usages if each.cost is not None]
    return Metrics(
        prompt_tokens=sum(each.input + each.cache_read + each.cache_write for each in usages),
        completion_tokens=sum(each.output for each in usages),
        cached_tokens=sum(each.cache_read for each in usages),
        cost_usd=sum(costs) if costs else None,
        extra={name: count for name, count in given.items() if count},
    )
