"""A trigger that is written by hand is met wherever its rule matches, however the text is escaped."""

from __future__ import annotations

import json
import random
import re
from urllib.parse import quote

import pytest

from sessiond.redact import Redactor, load_rules
from sessiond.redact.budget import Budget
from sessiond.redact.rules import Rule
from sessiond.redact.text import blank

RULES = [rule for rule in load_rules().rules if rule.id in ("secret-in-env", "secret-in-quotes", "secret-in-text")]
NAMES = "password passphrase PASSWORD DB_PASS pwd salt secret_key api.key encryption_password dbpwd TOKEN credentials"
SEPARATORS = ("=", ":", ":=", "=>", "===", ": str =", "%3D", "%3A")
SPACES = ("", " ", "  ", "\t", "\n", "\n  ", "**", "_")
QUOTES = ("", '"', "'", "`", 'b"', '@"')
VALUES = ("<8>", "<12>", "<41>", "<42>", "<100>", "a&<20>", "<7>,<9>", "é<9>", "<3>é<9>", "$<9>", "<20>(x", "<2>\\<9>")
ALPHABET = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def escaped(text: str, way: int) -> bytes:
    """Return a text as it is, in JSON, in JSON in JSON, as HTML-safe JSON, and in a URL in JSON."""
    if way == 0:
        return text.encode()
    if way == 3:
        safe = json.dumps({"c": text})
        for sign in "=&'<>":
            safe = safe.replace(sign, f"\\u00{ord(sign):02x}")
        return safe.encode()
    inner = json.dumps({"o": text}) if way == 2 else quote(text, safe="/:=&") if way == 4 else text
    return json.dumps({"c": inner}).encode()


def text_of(chance: random.Random) -> str:
    """Return an assignment in one of many syntaxes."""
    value = re.sub("<(\\d+)>", lambda count: "".join(chance.choices(ALPHABET, k=int(count[1]))), chance.choice(VALUES))
    name, quoted = chance.choice(NAMES.split()), chance.choice(("", '"', "'", "["))
    start = f"{quoted}{name}{quoted.replace('[', ']')}{chance.choice(SPACES)}{chance.choice(SEPARATORS)}"
    opening = chance.choice(QUOTES)
    ending = opening[-1:] or chance.choice(("", " ", "\n", ",", ";", "&x=1", "("))
    return f"see {start}{chance.choice(SPACES)}{opening}{value}{ending} end"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_written_trigger_is_met_however_the_text_is_escaped(rule: Rule) -> None:
    """The rule would not be tried at a place without its trigger, and the secret would stay readable."""
    chance, trigger, tried = random.Random(7), re.compile(rule.shape.scanned.encode(), re.DOTALL), 0
    for number in range(3000):
        data = escaped(text_of(chance), number % 5)
        for found in rule.regex.finditer(blank(data)):
            tried += 1
            most = found.start() + rule.shape.before
            ends = {at.end() for start in range(found.start(), most) if (at := trigger.match(data, start, most))}
            assert ends, data
    assert tried > 30


def test_rules_with_the_same_trigger_are_scanned_for_once(stars: Redactor) -> None:
    """Names of secrets are in many texts, and to scan for them again for each rule would take twice as long."""
    assert stars._detector is not None
    triggers = [trigger.expression for trigger in stars._detector._triggers()]
    assert len(triggers) == len(set(triggers))
    assert len({rule.shape.scanned for rule in RULES}) == 1


def test_a_masked_or_hexadecimal_value_is_reported_once(stars: Redactor) -> None:
    """A report for each of its characters would use up the budget of a list of keys."""
    assert stars._detector is not None
    for value in ("*" * 64, "0123456789abcdef" * 4):
        data = json.dumps({"c": f'{{"token": "{value}"}}'}).encode()
        hits = stars._detector.scanner.scan(data, Budget()).values()
        assert sum(len(hit.marks) for hit in hits) <= 2
