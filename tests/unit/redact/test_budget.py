"""The work of masking a text is counted, and a window that needs too much of it is masked as a whole."""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from sessiond.redact import Policy, Redactor, detector, load_rules, redactor
from sessiond.redact.budget import BYTES_OF_A_HIT, FREE, FREE_HITS, HIT, WINDOW, Budget, windows
from sessiond.redact.examples import expand
from sessiond.redact.flood import mask_all, region
from sessiond.redact.parts import SIZE as SIZE_OF_A_PART
from sessiond.redact.policy import DENSE
from support.many_examples import expand_nth

SIZE = 1 << 20
SAMPLES = Path(__file__).parents[2] / "conformance" / "samples"
RULES = load_rules().rules
MATCHES = [template for rule in RULES for template in rule.match]
MISSES = [template for rule in RULES for template in rule.miss]
DENSE_TEXTS: dict[str, Callable[[int], str]] = {
    "near-misses": lambda n: expand_nth(MISSES[n % len(MISSES)], n) + " ",
    "secrets": lambda n: expand_nth(MATCHES[n % len(MATCHES)], n) + " ",
    "short passwords": lambda n: "pwd:" + expand_nth("<P8>", n) + " ",
    "BEGIN lines": lambda n: f"-----BEGIN RSA PRIVATE KEY-----\n{n} ",
    "BEGIN and half a key": lambda n: "-----BEGIN RSA PRIVATE KEY-----\n" + expand_nth("<B40>", n) + "\n\n-- \n",
    "END lines": lambda n: f"{n}\n-----END RSA PRIVATE KEY-----\n",
    "tokens on lines of their own": lambda n: "token: " + expand_nth("<A16>", n) + "\n",
    "wraps": lambda n: f"ghp_\n{n}\n",
    "colour codes": lambda n: f"\x1b[{30 + n % 8}m{n}",
    "coloured secrets": lambda n: "\x1b[31m" + expand_nth("ghp_<A36>", n) + "\x1b[0m ",
    "passwords in Base64": lambda n: "cGFzc3dvcmQ9" + expand_nth("<B20>", n) + " ",
    "users in URLs": lambda n: f"://a{n}@",
    "calls": lambda n: f'("token{n}", ',
    "options": lambda n: f"curl -u a{n} ",
}


def fill(make: Callable[[int], str], size: int = SIZE) -> str:
    """Return about `size` characters of text, made piece by piece."""
    parts, length = [], 0
    while length < size:
        parts.append(make(len(parts)))
        length += len(parts[-1])
    return "".join(parts)


@functools.cache
def dense(name: str) -> str:
    """Return a megabyte of dense text."""
    return fill(DENSE_TEXTS[name])


@functools.cache
def dense_records(name: str) -> bytes:
    """Return about a megabyte of records, each with a piece of dense text."""
    return b"".join(line(DENSE_TEXTS[name](n)) for n in range(SIZE // 80))


def line(text: str) -> bytes:
    """Return a record with a text."""
    return json.dumps({"type": "user", "content": text}).encode() + b"\n"


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Budget]]:
    """Return every budget that was created."""
    given: list[Budget] = []

    class Kept(Budget):
        __slots__ = ("reported",)

        def __init__(self, free: int = FREE, hits: int = FREE_HITS) -> None:
            super().__init__(free, hits)
            self.reported = 0
            given.append(self)

        def report(self, hits: int) -> None:
            self.reported += hits
            super().report(hits)

    monkeypatch.setattr(redactor, "Budget", Kept)
    monkeypatch.setattr(detector, "Budget", Kept)
    yield given


@pytest.mark.parametrize("name", DENSE_TEXTS)
@pytest.mark.parametrize("in_one", [True, False], ids=["one record", "many records"])
def test_the_places_reported_of_a_text_are_bounded(
    name: str, in_one: bool, stars: Redactor, budgets: list[Budget]
) -> None:
    """The bound is a constant plus a share of the text's length. The length is kept, and JSON stays valid."""
    data = line(dense(name)) if in_one else dense_records(name)
    masked = stars.mask(data)
    size = len(data)
    for budget in budgets:
        assert budget.reported <= FREE_HITS + HIT * (size // BYTES_OF_A_HIT + 2 * (size // WINDOW + 2))  # type: ignore[attr-defined]
    assert len(masked.data) == size
    assert all(msgspec.json.decode(part) for part in masked.data.splitlines())
    assert masked.data.count(b"\n") == data.count(b"\n")


def test_most_of_a_dense_text_is_not_scanned(stars: Redactor, budgets: list[Budget]) -> None:
    """Near-misses in short records have less than the share of a budget each, but few of all are confirmed."""
    near = dense("near-misses")
    data = b"".join(line(near[at : at + 60]) for at in range(0, len(near), 60))
    everything = Budget(hits=SIZE)
    assert stars._detector is not None
    stars._detector.scanner.scan(data, everything)
    masked = stars.mask(data)
    assert sum(finding.length for finding in masked.findings if finding.rule == DENSE) > 0.8 * len(data)
    reported = sum(budget.reported for budget in budgets)  # type: ignore[attr-defined]
    assert reported < (SIZE - everything.hits) / 3
    assert budgets[0].left >= FREE / 2


@pytest.mark.parametrize("in_one", [True, False], ids=["one record", "many records"])
def test_each_of_many_secrets_is_masked(in_one: bool, stars: Redactor) -> None:
    """Ten thousand of them are too many to confirm: the text around them is masked as well, and none is left."""
    values = [expand_nth(f"{kind}<A36>", n) for n in range(10_000) for kind in ("ghp_", "npm_")]
    data = line(" ".join(values)) if in_one else b"".join(line(value) for value in values)
    masked = stars.mask(data)
    assert DENSE in {finding.rule for finding in masked.findings}
    assert not set(values) & set(re.findall(r"(?:ghp_|npm_)[A-Za-z0-9]{36}", masked.data.decode()))
    assert stars.mask(masked.data).data is masked.data


def test_records_beside_a_dense_one_keep_their_text(stars: Redactor) -> None:
    """Only the windows of the dense record are masked as a whole."""
    before, after = line("an ordinary text " * 10_000), line("another one " * 20_000)
    masked = stars.mask(before + line(dense("secrets")) + after)
    assert masked.data.startswith(before) and masked.data.endswith(after)


def test_a_dense_record_costs_the_others_of_its_window_nothing(stars: Redactor) -> None:
    """Records with few places are searched first, so that a dense one does not use up what they need."""
    others = [line(f"{n}: we used {expand_nth('ghp_<A36>', n)}, " + "an ordinary text " * 300) for n in range(20)]
    kinds = ("near-misses", "short passwords", "tokens on lines of their own")
    for kind in kinds:
        dense_one = line(fill(DENSE_TEXTS[kind], 60_000))
        data = b"".join(others[:10]) + dense_one + b"".join(others[10:])
        assert len(data) < WINDOW
        masked = stars.mask(data).data
        whole = b"".join(stars.mask(each).data for each in others[:10])
        assert masked.startswith(whole) and masked.endswith(b"".join(stars.mask(each).data for each in others[10:]))
        assert not set(re.findall(rb"(?:pwd:|token: )[A-Za-z0-9]{8,}", masked)), kind


def test_a_secret_across_the_end_of_a_part_is_masked(stars: Redactor) -> None:
    """A window is divided between records only, and each part is masked with all that its secrets may reach."""
    for shift in range(0, SIZE_OF_A_PART, 1024):
        near = fill(DENSE_TEXTS["near-misses"], 900)
        lines = [near + " " + expand_nth("ghp_<A36>", n) for n in range(200)]
        masked = stars.mask(b"".join(map(line, ["pad " * (shift // 4), *lines]))).data
        assert not re.search(rb"ghp_[A-Za-z0-9]{36}", masked)
        assert all(json.loads(each) for each in masked.splitlines())


@pytest.mark.parametrize(
    "result",
    [
        "--- PASS: TestParse{n} (0.00s)",
        "=== RUN   TestServe\n    --- PASS: TestServe/case_{n} (0.01s)",
        "PASS: tests/wool-{n}.sh",
        "PASS: gdb.base/a{n}-run.exp: step {n}",
        "PASS: gcc.dg/loom-{n}.c (test for excess errors)",
    ],
)
def test_the_log_of_a_thousand_tests_is_kept(result: str, stars: Redactor) -> None:
    """`PASS:` before the name of a test is refused at a glance."""
    log = line("".join(result.format(n=n) + "\n" for n in range(1000)))
    assert stars.mask(log).data is log


def test_a_secret_that_begins_before_a_dense_window_or_ends_behind_it_is_masked(stars: Redactor) -> None:
    """The window is masked with all that a secret in it may reach within its record."""
    dense = fill(DENSE_TEXTS["short passwords"], 2 * WINDOW)
    long = expand("eyJ<A3900>.eyJ<A7000>.<A43>", 1)
    for shift in range(0, 12_000, 3000):
        text = "word " * (WINDOW * 3 // 5 - shift // 5) + long + " " + dense + long + " word" * 50_000
        masked = stars.mask(line(text))
        assert not [at for at in range(0, len(long) - 40, 40) if long[at : at + 40].encode() in masked.data]


def test_pieces_of_a_dense_record_are_masked(stars: Redactor) -> None:
    """Each byte is masked by the rules or as a part of a window; nothing waits for the end of the record."""
    values = [expand_nth("ghp_<A36>", n) for n in range(20_000)]
    data = line(" ".join(values))
    pieces = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
    masked = list(stars.mask_pieces(iter(pieces)))
    whole = b"".join(part.data for part in masked)
    assert len(whole) == len(data) and len(masked) > 3
    assert not set(values) & set(re.findall(r"ghp_[A-Za-z0-9]{36}", whole.decode()))


def test_values_that_the_user_named_are_masked_however_many(stars: Redactor) -> None:
    """A text that repeats them more often than may be reported is masked as a whole."""
    named = Redactor(Policy(secrets=(b"correct horse",)))
    masked = named.mask(line("correct horse, " * 60_000))
    assert b"correct" not in masked.data


def test_ordinary_transcripts_stay_within_the_budget(stars: Redactor) -> None:
    """No window of any sample of any tool is masked as a whole."""
    files = [path for path in SAMPLES.rglob("*") if path.is_file()]
    assert len(files) > 100
    for path in files:
        assert DENSE not in {finding.rule for finding in stars.mask(path.read_bytes()).findings}, path


def test_prose_about_secrets_stays_within_the_budget(stars: Redactor) -> None:
    """A text that names passwords and tokens in each sentence, and holds none, is not masked."""
    words = "the daemon reads a session from disk, token usage was fine; password reset -> key: value secret of pass"
    chance = random.Random(7)
    data = b"".join(line(" ".join(chance.choices(words.split(), k=200))) for _ in range(SIZE // 1200))
    assert stars.mask(data).findings == ()


def test_a_hundred_secrets_in_one_text_are_masked_one_by_one(stars: Redactor) -> None:
    """The output of `env` or a file of settings has many secrets: the words between them stay."""
    text = "".join(f"SERVICE_{n}_TOKEN={expand_nth('<A32>', n)}\nname=service number {n}\n" for n in range(60))
    masked = stars.mask(line(text))
    assert DENSE not in {finding.rule for finding in masked.findings}
    assert masked.data.count(b"name=service number") == 60
    assert masked.data.count(b"*" * 32) == 60


def test_windows_hold_whole_records_where_they_can() -> None:
    """They follow each other without a gap, and divide no record that fits into one."""
    data = b"\n".join(b'{"a": "' + b"x" * (n * 37 % 5000) + b'"}' for n in range(400))
    found = windows(data)
    assert [low for low, _ in found[1:]] == [high for _, high in found[:-1]]
    assert (found[0][0], found[-1][1]) == (0, len(data))
    assert all(data[low : low + 1] == b"{" and high - low <= WINDOW + 1 for low, high in found)
    assert [high - low for low, high in windows(b"x" * (WINDOW * 2 + 5))] == [WINDOW, WINDOW, 5]


def test_masking_all_keeps_json_valid_wherever_it_begins_and_ends() -> None:
    """It may begin in strings, escapes, numbers and words. Masking the result again changes nothing."""
    chance = random.Random(7)

    def value(depth: int) -> object:
        kind = chance.random()
        if depth > 3 or kind < 0.4:
            letters = 'ab"\\\n\t/é☕\x1b 1{}[],:u😀'
            return "".join(chance.choices(letters, k=chance.randint(0, 12)))
        if kind < 0.5:
            return chance.choice([True, False, None, 12, -3.5e10, 0, 1e-7])
        if kind < 0.7:
            return [value(depth + 1) for _ in range(chance.randint(0, 4))]
        if kind < 0.8:
            return json.dumps(value(depth + 1))
        return {str(value(9)): value(depth + 1) for _ in range(chance.randint(0, 4))}

    for _ in range(2000):
        records = [json.dumps({"a": value(0)}, ensure_ascii=chance.random() < 0.5) for _ in range(3)]
        data = "\n".join(records).encode()
        low = chance.randint(0, len(data))
        start, end = region(data, low, chance.randint(low, len(data)), chance.choice([0, 5, 1000]))
        covered = mask_all(data, start, end)
        whole = data[:start] + covered + data[end:]
        assert len(whole) == len(data)
        assert all(json.loads(part) for part in whole.decode().split("\n"))
        assert mask_all(whole, start, end) == covered


def test_masking_all_leaves_no_letter_of_a_text() -> None:
    """The text may be JSON, JSON with many short strings, or not JSON."""
    for text in ("Tr0ub4dor secret\tvalue", "a", "ünïcode"):
        for data in (
            json.dumps({text: [text, 12, True, json.dumps(text)]}).encode(),
            json.dumps([text] * 50).encode(),
            text.encode() * 20,
        ):
            left = mask_all(data, 0, len(data))
            assert not [word for word in text.split() if len(word) > 1 and word.encode() in left]


def test_a_whole_record_becomes_an_object_with_one_member() -> None:
    """Neither a step for each of its strings is needed then, nor one for each escape. Shorter records become empty."""
    data = b'{"a":1}\n{"key":"a\\nb\\"","c":[1]}\n{ }\n{"b":[{"c":"x}\\n{y"}]}\n'
    covered = mask_all(data, 0, len(data))
    assert re.fullmatch(rb'\{"\*":1\}\n\{"\*+":1\}\n\{ \}\n\{"\*+":1\}\n', covered)
    assert list(map(len, covered.splitlines())) == list(map(len, data.splitlines()))
    start, end = data.index(b"key"), data.rindex(b"b")
    inner = data[:start] + mask_all(data, start, end) + data[end:]
    assert [bool(json.loads(part)) for part in inner.splitlines()] == [True, True, False, True]
    assert len(inner) == len(data) and b"b\\" not in inner


@pytest.mark.parametrize(
    "text", ['[\n{"a": "secret"},\n{"b": 2}\n]', '{"a": {"b": "x"}\n}\n{"c":\n{"d": 1}}\n{"e": 2}']
)
def test_lines_that_only_look_like_records_stay_json(text: str) -> None:
    """A document over several lines keeps its lines and its structure."""
    covered = mask_all(text.encode(), 0, len(text))
    assert b"secret" not in covered and covered.count(b"\n") == text.count("\n") and len(covered) == len(text)
    decoder, position = json.JSONDecoder(), 0
    while position < len(covered):
        _, position = decoder.raw_decode(covered.decode(), position)
        position += 1
