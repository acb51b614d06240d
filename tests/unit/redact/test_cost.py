"""No input costs much more than ordinary text: the bytes that are examined are counted, not seconds.

Whatever looks at bytes is counted with as many as it may look at: each use of an expression, each search and each slice
of the text, each trial of a rule. A walk that begins again at each of many marks shows as a multiple of the text.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from test_budget import DENSE_TEXTS, dense

from sessiond.redact import Redactor, load_rules
from sessiond.redact.examples import expand
from sessiond.redact.rules import Rule
from support.many_examples import expand_nth

SIZE = 1 << 15
"""Bytes of an input: few enough that none is folded as a long repeat, and as many as the longest walk may take."""
WALKS = ("confirm", "cover", "keys", "layout", "lines", "rules", "sight", "tables", "text", "wrapped")
LITERAL = 8
"""Bytes that are searched for a fixed string in the time that an expression takes for one."""
MOST_OF_A_RUN = 300
"""Bytes that may be examined for each byte of a run. A walk from each mark over all that follows would be thousands."""
MOST_PER_BYTE = 1000
"""The same for the beginnings of secrets: each may be one, and a value has up to some thousand bytes."""
FAILED = 64
"""Bytes that a failed attempt at one place counts as."""
MOST_OF_DENSE_TEXT = 100
"""Bytes that may be examined for each byte of a long text, whatever it holds: the budget ends what takes more."""
RUNS = {
    "one letter": "A",
    "another letter": "a",
    "zero bytes in Base64 and a space": "A" * 99 + " ",
    "digits": "0123456789",
    "equals signs": "=",
    "quotes": '"',
    "quoted letters": '"a"',
    "backslashes": "\\",
    "escaped line breaks": "\\\\n",
    "newlines": "\n",
    "dashes": "-",
    "five dashes": "----- ",
    "colons": ":",
    "slashes": "/",
    "percent signs": "%3D",
    "hex": "0123456789abcdef",
    "Base64": expand("<B4096>", 1),
    "Base64 lines": expand("<B64>", 1) + "\n",
    "BEGIN lines": "-----BEGIN RSA PRIVATE KEY-----\n",
    "BEGIN in one line": "-----BEGIN RSA PRIVATE KEY-----",
    "BEGIN and half a key": "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIE" * 10 + "\n\n-- \n",
    "END lines": "-----END RSA PRIVATE KEY-----\n",
    "END in one line": "-----END RSA PRIVATE KEY-----",
    "END behind empty lines": "\n\n\n\n-----END PRIVATE KEY-----\n",
    "END behind Base64": "MIIEabcd" * 8 + "\n-----END RSA PRIVATE KEY-----\n",
    "keys of PuTTY": "Private-Lines: 14\n",
    "colour codes": "\x1b[0m",
    "coloured letters": "\x1b[31ma",
    "links of a terminal": "\x1b]8;;http://x",
    "written escapes": "\\u001b[",
    "wraps": "ghp_\nA\n",
    "tokens on lines of their own": "token: AAAAAAAAAAAAAAAA\n",
    "short tokens on lines of their own": "ghp_AAAAAAAA\n",
    "names in lines of one width": "secretAAAAAAAAAAAAAAAAAAAAAAAA\n",
    "URLs": "https://",
    "users in URLs": "://a:",
    "options": "-a",
    "headers of a table": "name,password\n",
    "a table": "| name | password |\n",
    "inserts": "INSERT INTO t (a, password) VALUES ('x', 'y');\n",
    "rows of an insert": "INSERT INTO t (password) VALUES " + "('a'), " * 99 + "\n",
}


class Counted(bytes):
    """Bytes that count what is searched or copied of them."""

    work: ClassVar = [0]

    def _charge(self, found: int, start: int, end: int | None, back: bool = False) -> int:
        low, high, _ = slice(start, end).indices(len(self))
        reached = high - low if found < 0 else (high - found if back else found - low)
        self.work[0] += max(0, reached) // LITERAL
        return found

    def find(self, what: Any, start: Any = 0, end: Any = None) -> int:
        return self._charge(super().find(what, start, end), start, end)

    def rfind(self, what: Any, start: Any = 0, end: Any = None) -> int:
        return self._charge(super().rfind(what, start, end), start, end, back=True)

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        self.work[0] += len(part) if isinstance(part, bytes) else 1
        return part


class Expression:
    """An expression that counts the bytes which it matched or searched in vain.

    How far an attempt at one place got that did not match can't be known; it counts as `FAILED`.
    """

    def __init__(self, real: re.Pattern[bytes]) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def _apply(self, name: str, text: bytes, start: int, end: int | None) -> re.Match[bytes] | None:
        end = len(text) if end is None else min(end, len(text))
        found: re.Match[bytes] | None = getattr(self._real, name)(text, start, end)
        looked = max(0, (found.end() if found else end) - start)
        Counted.work[0] += 1 + (min(looked, FAILED) if found is None and name != "search" else looked)
        return found

    def match(self, text: bytes, start: int = 0, end: int | None = None) -> re.Match[bytes] | None:
        return self._apply("match", text, start, end)

    def fullmatch(self, text: bytes, start: int = 0, end: int | None = None) -> re.Match[bytes] | None:
        return self._apply("fullmatch", text, start, end)

    def search(self, text: bytes, start: int = 0, end: int | None = None) -> re.Match[bytes] | None:
        return self._apply("search", text, start, end)

    def finditer(self, text: bytes, start: int = 0, end: int | None = None) -> Iterator[re.Match[bytes]]:
        Counted.work[0] += max(0, (len(text) if end is None else min(end, len(text))) - start)
        return self._real.finditer(text, start, len(text) if end is None else end)

    def findall(self, text: bytes) -> list[Any]:
        Counted.work[0] += len(text)
        return self._real.findall(text)

    def sub(self, by: Any, text: bytes) -> bytes:
        Counted.work[0] += len(text)
        return self._real.sub(by, text)


@pytest.fixture(scope="module")
def counting(stars: Redactor) -> Iterator[None]:
    """Count what the redactor examines."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _count(monkeypatch, stars)
        yield


def _count(monkeypatch: pytest.MonkeyPatch, stars: Redactor) -> None:
    for name in WALKS:
        module = importlib.import_module(f"sessiond.redact.{name}")
        for attribute, value in list(vars(module).items()):
            if isinstance(value, re.Pattern):
                monkeypatch.setattr(module, attribute, Expression(value))
    confirm = importlib.import_module("sessiond.redact.confirm")
    rules = importlib.import_module("sessiond.redact.rules")
    monkeypatch.setattr(rules, "_compiled", _counting(rules._compiled))
    for name in ("barrier_finder", "seeker", "trigger_matcher", "trigger_finder"):
        monkeypatch.setattr(confirm, name, _counting(getattr(confirm, name)))
    assert stars._detector is not None
    wraps = stars._detector._wraps
    monkeypatch.setattr(wraps, "begins", Expression(wraps.begins))


@pytest.fixture
def work(stars: Redactor, counting: None) -> Callable[[str], float]:
    """Return a function that masks a text in a record and returns how many bytes were examined for each."""

    def measure(text: str) -> float:
        record = Counted(json.dumps({"content": text}).encode())
        Counted.work[0] = 0
        stars.mask(record)
        return Counted.work[0] / len(record)

    return measure


def _counting(make: Callable[..., Any]) -> Callable[..., Any]:
    def made(*args: Any) -> Any:
        real = make(*args)
        if isinstance(real, re.Pattern):
            return Expression(real)
        return getattr(Expression(real.__self__), real.__name__)

    return made


def _repeat(text: str) -> str:
    return text * (SIZE // len(text))


def _number(text: str) -> str:
    """Repeat a text with a number behind each, so that no two places have the same bytes around them."""
    return "".join(f"{text}{number} " for number in range(SIZE // (len(text) + 5)))


RULES = load_rules().rules
some_rules = pytest.mark.parametrize("rules", [RULES[at::8] for at in range(8)], ids=range(8))


def _beginnings(rule: Rule) -> set[str]:
    """Return how the examples of a rule begin: a prefix of a token, a key and what comes before its value."""
    return {template.partition("<")[0] for template in rule.match} - {""}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_anything_is_examined_a_few_times(name: str, work: Callable[[str], float]) -> None:
    """A run of a letter once cost a trial for each of its bytes, and a BEGIN line a walk over all that followed."""
    assert work(_repeat(RUNS[name])) <= MOST_OF_A_RUN
    assert work(_number(RUNS[name])) <= MOST_OF_A_RUN


@some_rules
def test_the_beginning_of_a_secret_repeated_is_examined_a_few_times(
    rules: tuple[Rule, ...], work: Callable[[str], float]
) -> None:
    """Each beginning is a place where the rule is tried, and a walk may start."""
    spent = {text: max(work(_repeat(text)), work(_number(text))) for rule in rules for text in _beginnings(rule)}
    assert {text: each for text, each in spent.items() if each > MOST_PER_BYTE} == {}


@some_rules
def test_a_near_miss_is_examined_a_few_times(rules: tuple[Rule, ...], work: Callable[[str], float]) -> None:
    """Each rule whose names it has may examine it, but not once for each of its bytes."""
    spent = {
        template: work("".join(expand_nth(template, n) + " and so on\n" for n in range(SIZE >> 6)))
        for rule in rules
        for template in rule.miss
    }
    assert {template: each for template, each in spent.items() if each > MOST_PER_BYTE} == {}


@pytest.mark.parametrize("name", DENSE_TEXTS)
def test_a_long_text_is_examined_a_few_times_whatever_it_holds(name: str, work: Callable[[str], float]) -> None:
    """Near-misses and real secrets once cost a hundred to three thousand times as much as ordinary text."""
    assert work(dense(name)) <= MOST_OF_DENSE_TEXT
