"""The redactor's guarantees: length, JSON, idempotence, unchanged other bytes, and the same result for pieces."""

from __future__ import annotations

import base64
import json
import os
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.errors import ConfigError
from sessiond.redact import KNOWN, OVERLAP, Policy, Redactor, RuleSet, digest, load_rules
from sessiond.redact.examples import expand
from sessiond.redact.policy import DENSE
from sessiond.redact.text import REACH, blank

KEY = b"k" * 32
TEMPLATES = [template for rule in load_rules().rules for template in (*rule.match, *rule.miss)]
ONE = RuleSet(tuple(rule for rule in load_rules().rules if rule.id == "github-token"), ())
"""Compiling all rules takes a second."""
LAX = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])

secrets = st.builds(expand, st.sampled_from(TEMPLATES), st.integers(0, 10**6))
noise = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["\n", '"', "\\", "'", " ", "=", ": ", "*", "password", "token=", "\\n", "\x1b[1m", "é", "https://", "{"]
    ),
)
texts = st.lists(st.one_of(noise, secrets), max_size=8).map("".join)
values = st.recursive(
    st.one_of(texts, st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(["password", "token", "content", "DB_PASSWORD"]), st.text(max_size=4)),
            inner,
            max_size=3,
        ),
        inner.map(json.dumps),
    ),
    max_leaves=6,
)


def record(value: object, ascii_only: bool) -> bytes:
    """Make one JSON line, as a tool would."""
    return json.dumps({"v": value}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") + b"\n"


@LAX
@given(value=values, ascii_only=st.booleans())
def test_json_stays_json_of_the_same_length(value: object, ascii_only: bool, stars: Redactor, hashes: Redactor) -> None:
    """A line that was JSON stays JSON of the same shape and length, whatever is masked in it."""
    data = record(value, ascii_only)
    for redactor in (stars, hashes):
        masked = redactor.mask(data)
        assert len(masked.data) == len(data)
        assert shape(json.loads(masked.data)) == shape(json.loads(data))
        if not masked.findings:
            assert masked.data is data


def shape(value: object) -> object:
    """Reduce a value to its types and sizes; a number that was covered is still a number."""
    if isinstance(value, dict):
        return [shape(item) for item in value.values()]
    if isinstance(value, list):
        return [shape(item) for item in value]
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


@LAX
@given(value=values, ascii_only=st.booleans())
def test_covering_twice_changes_nothing(value: object, ascii_only: bool, stars: Redactor, hashes: Redactor) -> None:
    """Masked bytes stay as they are, so a stream can be redacted again after a rule update."""
    for redactor in (stars, hashes):
        once = redactor.mask(record(value, ascii_only)).data
        assert redactor.mask(once).data == once


@LAX
@given(value=values, ascii_only=st.booleans())
def test_nothing_outside_a_finding_changes(value: object, ascii_only: bool, stars: Redactor) -> None:
    """Bytes differ only within the findings, and there never a quote, a backslash or a control character."""
    data = record(value, ascii_only)
    masked = stars.mask(data)
    inside = {i for finding in masked.findings for i in range(finding.start, finding.start + finding.length)}
    for index, (old, new) in enumerate(zip(data, masked.data, strict=True)):
        if old != new:
            assert index in inside
            assert old not in b'"\\' and old >= 0x20


@LAX
@given(value=values, ascii_only=st.booleans())
def test_both_scanners_find_the_same(value: object, ascii_only: bool, stars: Redactor, plain: Redactor) -> None:
    """Scanning without hyperscan is slower, and differs in nothing else."""
    data = record(value, ascii_only)
    assert plain.mask(data) == stars.mask(data)


@LAX
@given(data=st.lists(st.one_of(st.binary(max_size=20), secrets.map(str.encode)), max_size=8).map(b"".join))
def test_any_bytes_are_taken(data: bytes, stars: Redactor, hashes: Redactor, plain: Redactor) -> None:
    """Invalid UTF-8, NUL and torn lines are ordinary states of a file."""
    for redactor in (stars, hashes):
        once = redactor.mask(data)
        assert len(once.data) == len(data)
        assert redactor.mask(once.data).data == once.data
    assert plain.mask(data) == stars.mask(data)


@LAX
@given(lines=st.lists(values, min_size=2, max_size=4))
def test_how_records_are_grouped_does_not_matter(lines: list[object], stars: Redactor) -> None:
    """Records give the same one by one as together."""
    data = [record(line, True) for line in lines]
    assert stars.mask(b"".join(data)).data == b"".join(stars.mask(line).data for line in data)


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(chance=st.randoms(use_true_random=False), found=st.lists(secrets, min_size=30, max_size=60))
def test_cut_anywhere_is_whole(chance: object, found: list[str], stars: Redactor) -> None:
    """One long record in pieces gives the same bytes and the same findings as in one."""
    random = chance
    text = "".join(secret + "\n" + "lorem ipsum " * random.randint(10, 1500) for secret in found)  # type: ignore[attr-defined]
    data = record(text, True)
    cuts = sorted(random.randint(0, len(data)) for _ in range(12))  # type: ignore[attr-defined]
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    whole = stars.mask(data)
    parts = list(stars.mask_pieces(pieces))
    assert b"".join(part.data for part in parts) == whole.data
    assert tuple(finding for part in parts for finding in part.findings) == whole.findings


def test_a_secret_on_every_cut_is_found(stars: Redactor) -> None:
    """The cut is made at every byte of a key."""
    secret = expand("ghp_<A36>", 3).encode()
    data = b'{"v":"' + b"lorem ipsum " * (OVERLAP // 4) + secret + b" " + b"dolor " * OVERLAP + b'"}\n'
    place = data.index(secret)
    for cut in range(place - 1, place + len(secret) + 2):
        out = b"".join(part.data for part in stars.mask_pieces(iter([data[:cut], data[cut:]])))
        assert secret not in out
        assert len(out) == len(data)


@LAX
@given(text=st.text(alphabet='\\"/nrtu0023dD%AF:=& \nx', max_size=40), start=st.integers(0, 30))
def test_a_window_is_blanked_like_the_whole(text: str, start: int) -> None:
    """The blanked form of a byte depends only on the bytes just before it."""
    raw = text.encode()
    assert blank(raw)[start + REACH :] == blank(raw[start:])[REACH:] or len(raw) < start + REACH
    assert len(blank(raw)) == len(raw)


def test_a_trigger_is_met_wherever_its_rule_is() -> None:
    """A trigger that scans raw bytes may accept more than the rule and never less."""
    import re

    for rule in load_rules().rules:
        trigger = re.compile(rule.shape.trigger.encode(), re.DOTALL)
        for template in rule.match:
            for depth in range(3):
                text = "x\n" + expand(template, 5) + "\ny"
                for _ in range(depth):
                    text = json.dumps(text)
                raw = text.encode()
                for found in rule.regex.finditer(blank(raw)):
                    start = found.start()
                    assert trigger.match(raw, start), (rule.id, depth)
                    assert not rule.shape.heads or raw[start:].lower().startswith(rule.shape.heads), (rule.id, depth)
                    front = re.compile(f"(?:{rule.shape.front})\\Z".encode(), re.DOTALL)
                    assert not (rule.shape.front and start) or front.search(raw[:start]), (rule.id, depth)


def test_what_a_rule_never_looks_past_decides_for_it() -> None:
    """A text that is cut behind the first byte of its barrier gives each rule the same result as the whole. Because of
    that, equal surroundings are judged once.
    """
    import re

    for rule in (rule for rule in load_rules().rules if rule.shape.barrier):
        fence = re.compile(rule.shape.barrier.encode())
        for template in (*rule.match, *rule.miss):
            for tail in ("", '"}', " and more of it", "\n{}", "<x>;", "A" * 40):
                text = blank(json.dumps(f"x\n{expand(template, 3)}{tail} a=b; c, <d> {{}}").encode())
                for place in range(len(text)):
                    end = fence.search(text, place + rule.shape.tail)
                    if end is not None:
                        whole, part = rule.regex.match(text, place), rule.regex.match(text, place, end.end())
                        assert (whole and whole.regs) == (part and part.regs), (rule.id, text, place)


def test_equal_surroundings_give_equal_answers(stars: Redactor) -> None:
    """Thousands of the same near-miss hide neither the one secret among them nor one that differs in what follows."""
    secret = expand("<A24>", 9)
    lines = [record('api_key = "x-api-key-here"', True) for _ in range(300)]
    lines[150] = record(f'api_key = "{secret}"', True)
    lines[151] = record(f'api_key = "x-api-key-here{secret}"', True)
    masked = stars.mask(b"".join(lines))
    assert len(masked.findings) == 2
    assert masked.data == b"".join(stars.mask(line).data for line in lines)


def test_a_near_miss_that_is_all_there_is_is_no_error(stars: Redactor) -> None:
    """A log may print the same line again and again, so that nothing is left to be tried."""
    line = "12:00:00 INFO the mirror answers: GET https://example.com/?token=your_token_here (200 was what it said)\n"
    for count in (64, 65, 500):
        assert not stars.mask(record(line * count, True)).findings


def test_known_values_are_covered_in_every_form() -> None:
    """A value that the user named is found as it is, escaped, in a URL and in base64, by both scanners."""
    value = 'tr0ub4dor "und" 3/x&y'
    for engine in (None, "re"):
        redactor = Redactor(Policy(secrets=(value.encode(),)), engine=engine)
        for text in (value, json.dumps(value), json.dumps(json.dumps(value)), "a=tr0ub4dor%20%22und%22%203%2Fx%26y;"):
            masked = redactor.mask(text.encode())
            assert [finding.rule for finding in masked.findings] == [KNOWN], text
            assert b"ub4dor" not in masked.data
        for shift in range(3):
            wrapped = base64.b64encode(b"." * shift + value.encode() + b"...")
            assert redactor.mask(wrapped).findings
    assert value not in repr(Policy(secrets=(value.encode(),)))


def test_secrets_in_base64_are_covered(stars: Redactor) -> None:
    """A key that was wrapped in base64 is found at each of the three places in a group."""
    for shift in range(3):
        inner = b"x" * shift + b" " + expand("ghp_<A36>", shift).encode() + b" more of it"
        data = json.dumps({"data": base64.b64encode(inner).decode()}).encode()
        masked = stars.mask(data)
        assert [finding.rule for finding in masked.findings] == ["github-token"]
        assert stars.mask(masked.data).data == masked.data


def test_equal_secrets_have_equal_hashes(hashes: Redactor) -> None:
    """At any depth of escapes, and only with the key."""
    secret = expand("ghp_<A36>", 1)
    one = hashes.mask(json.dumps({"a": secret}).encode())
    two = hashes.mask(json.dumps({"b": json.dumps({"c": secret})}).encode())
    first, second = (m.data[m.findings[0].start :][: m.findings[0].length] for m in (one, two))
    assert first == second and first.startswith(b"*") and len(first) == 40
    other = Redactor(Policy(mode="hash", key=b"o" * 32)).mask(json.dumps({"a": secret}).encode())
    assert first not in other.data


def test_a_number_stays_a_number(stars: Redactor) -> None:
    """JSON allows no star outside of a string."""
    masked = stars.mask(b'{"password": 83917263, "x": 1}')
    assert json.loads(masked.data) == {"password": 11111111, "x": 1}
    assert json.loads(stars.mask(b'{"password": "83917263"}').data) == {"password": "********"}


def test_a_key_over_lines_stays_over_lines(stars: Redactor) -> None:
    """Escaped line ends stay, so the text is as many lines as before."""
    key = expand("-----BEGIN RSA PRIVATE KEY-----\n<B64>\n<B64>\n<B20>==\n-----END RSA PRIVATE KEY-----\n", 1)
    text = json.loads(stars.mask(json.dumps(key).encode()).data)
    assert [len(line) for line in text.split("\n")] == [len(line) for line in key.split("\n")]
    assert text.split("\n")[1] == "*" * 64
    assert text.split("\n")[4] == "-----END RSA PRIVATE KEY-----"


def test_off_and_allowed_leave_everything() -> None:
    """Off leaves the data untouched; a rule, a value or a path may be allowed."""
    secret = expand("ghp_<A36>", 1).encode()
    for policy in (
        Policy(mode="off"),
        Policy(allow_rules=frozenset({"github-token"})),
        Policy(allow_hashes=frozenset({digest(secret)})),
        Policy(allow_paths=("*/fixtures/*",)),
    ):
        assert Redactor(policy, rules=ONE).mask(secret, path="/a/fixtures/b").data is secret


def test_a_hash_needs_a_key() -> None:
    """A reader of a hash without a key could guess its value."""
    with pytest.raises(ConfigError):
        Redactor(Policy(mode="hash"))


def test_the_version_names_what_is_found(stars: Redactor) -> None:
    """It changes with the mode, the rules, the allow-lists and the known values, and with nothing else."""
    policies = [
        Policy(),
        Policy(mode="hash", key=KEY),
        Policy(allow_rules=frozenset({"jwt"})),
        Policy(allow_hashes=frozenset({"00"})),
        Policy(secrets=(b"some-secret",)),
        Policy(secrets=(b"other-secret",)),
    ]
    versions = [Redactor(policy, engine="re").version for policy in policies]
    assert len(set(versions)) == len(versions)
    assert versions[0] == stars.version


@pytest.mark.usefixtures("compile_each_time")
def test_compiled_rules_are_cached_and_a_damaged_cache_is_not_used(tmp_path: object) -> None:
    """A torn, foreign or writable file is compiled again; known values are never in it."""
    directory = f"{tmp_path}/cache"
    policy = Policy(secrets=(b"very-known-value",))
    secret = expand("ghp_<A36>", 1).encode()
    assert Redactor(policy, rules=ONE, cache_dir=directory).mask(secret).findings
    (path,) = (f"{directory}/{name}" for name in os.listdir(directory) if name.endswith(".hsdb"))
    assert os.stat(path).st_mode & 0o777 == 0o600
    with open(path, "rb") as file:
        content = file.read()
    assert b"very-known-value" not in content
    assert Redactor(policy, rules=ONE, cache_dir=directory).mask(secret).findings
    for damage in (content[:100], content[:200] + b"x" + content[201:], b""):
        with open(path, "wb") as file:
            file.write(damage)
        assert Redactor(policy, rules=ONE, cache_dir=directory).mask(secret).findings
        with open(path, "rb") as file:
            assert file.read()[32:33]
    os.chmod(path, 0o666)
    assert Redactor(policy, rules=ONE, cache_dir=directory).mask(secret).findings


def test_several_threads_may_share_one(stars: Redactor) -> None:
    """Each thread scans with a scratch of its own."""
    data = record([expand("ghp_<A36>", n) + " lorem" * 100 for n in range(200)], True)
    expected = stars.mask(data)
    answers: list[bool] = []

    def work() -> None:
        answers.extend(stars.mask(data) == expected for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 80 and all(answers)


# Inputs that cost a careless scanner its life; the bench measures them, here they only have to end.
ADVERSARIES = {
    "one letter": b"a" * (1 << 20),
    "backslashes": b"\\" * (1 << 18),
    "key headers": b"-----BEGIN RSA PRIVATE KEY-----" * 20_000,
    "half keys": b"AKIA1234567 ghp_abcdef password=${X} " * 5000,
}


@pytest.mark.parametrize("name", ADVERSARIES)
def test_hostile_input_is_harmless(name: str, stars: Redactor) -> None:
    """It is accepted and keeps its length. With few places at which a secret may begin, it keeps its bytes too."""
    data = ADVERSARIES[name]
    masked = stars.mask(data)
    assert len(masked.data) == len(data)
    assert {finding.rule for finding in masked.findings} <= {DENSE}
    assert stars.mask(masked.data).data is masked.data
    if name in ("one letter", "backslashes"):
        assert masked.data is data


@pytest.mark.usefixtures("compile_each_time")
def test_rules_are_compiled_in_another_process() -> None:
    """Another process compiles a database. Without a directory for it, the rules work all the same."""
    import hyperscan

    from sessiond.redact import scanner

    built = scanner._build([(b"abc[0-9]{3}", False), (b"abc", True)])
    assert built is not None and hyperscan.loadb(built, hyperscan.HS_MODE_BLOCK)
    assert scanner._build([(b"abc[", False)]) is None
    secret = expand("ghp_<A36>", 1).encode()
    assert Redactor(Policy(), rules=ONE, cache_dir="/proc/nowhere").mask(secret).findings


def test_places_that_repeat_are_judged_alike(stars: Redactor) -> None:
    """A remembered result equals a new one, with other neighbours, depths and values."""
    lines = []
    for number in range(70):
        value = expand("<A24>", 1 if number % 7 else number)
        lines.append(record({"a": f'api_key = "{value}"' if number % 3 else 'api_key = "your-api-key-here"'}, True))
    assert stars.mask(b"".join(lines)).data == b"".join(stars.mask(line).data for line in lines)


SHORT = st.lists(st.one_of(secrets, st.text(max_size=6)), max_size=3).map(" ".join)


@LAX
@given(values=st.lists(SHORT, min_size=2, max_size=6), far=st.booleans())
def test_covering_several_records_twice_changes_nothing(values: list[str], far: bool, stars: Redactor) -> None:
    """Masked bytes are scanned again in windows of several records, and each is found in its own place."""
    gap = "x " * 3000 if far else ""
    data = b"".join(record([value, gap], True) for value in values)
    once = stars.mask(data)
    assert once.data == b"".join(stars.mask(record([value, gap], True)).data for value in values)
    assert stars.mask(once.data).data == once.data


def test_marks_in_windows_are_moved_to_their_place() -> None:
    """A window begins where it does in the whole, with one byte between two of them."""
    from sessiond.redact.detector import shift_marks

    whole = bytes(range(100))
    windows = [(10, 20), (40, 45), (90, 95)]
    joined = b"\n".join(whole[low:high] for low, high in windows)
    marks = [place for place, byte in enumerate(joined) if byte != 0x0A or place == 0]
    assert [whole[place] for place in shift_marks(marks, windows)] == [joined[place] for place in marks]


def test_a_keyword_counts_near_a_match_wherever_that_is() -> None:
    """It counts up to 256 bytes before the match, even far behind the beginning of the data."""
    extra = load_rules("[[rules]]\nid = 'n'\nregex = '''[0-9]{12}'''\nkeywords = ['acme']")
    redactor = Redactor(Policy(extra=(extra,)), rules=RuleSet((), ()))
    for filler, found in ((50, True), (500, False)):
        before = b"x " * 5000 + b"acme: " + b"y " * filler
        data = before + b"123456789012" + b" z" * 5000
        findings = redactor.mask(data).findings
        assert [(one.start, one.length) for one in findings] == ([(len(before), 12)] if found else [])


def test_a_key_may_have_any_length() -> None:
    """BLAKE2 takes 64 bytes of it."""
    made = [Redactor(Policy(mode="hash", key=b"k" * size, secrets=(b"a long secret",))) for size in (64, 65)]
    assert made[0].mask(b"a long secret") == made[1].mask(b"a long secret")
    assert b"a long secret" not in made[0].mask(b"a long secret").data
    assert made[0].version == made[1].version
