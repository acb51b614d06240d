"""Every rule finds its examples, at any depth of JSON, and leaves its counter-examples alone."""

from __future__ import annotations

import itertools
import json
import re

import pytest

from sessiond.errors import ConfigError
from sessiond.redact import Policy, Redactor, Rule, RuleSet, load_rules
from sessiond.redact.examples import expand
from sessiond.redact.go_syntax import from_go
from sessiond.redact.text import blank

RULES = load_rules().rules
SEEDS = range(5)
NO_RULES = RuleSet((), ())
"""Hyperscan takes a second to compile all rules with another one."""


def nested(text: str, depth: int) -> bytes:
    """Put text into JSON, and that into JSON."""
    for _ in range(depth):
        text = json.dumps({"type": "tool_result", "content": text})
    return text.encode()


def around(template: str, seed: int) -> str:
    """Put an example between two lines."""
    return f"see here\n{expand(template, seed)}\nand there"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_each_rule_finds_its_examples(rule: Rule, stars: Redactor, plain: Redactor) -> None:
    """A secret is found in plain text and under one and two levels of escapes, by both scanners alike."""
    for depth in (0, 1, 2):
        out = []
        for data in (nested(around(template, seed), depth) for template in rule.match for seed in SEEDS):
            masked = stars.mask(data)
            assert rule.id in {finding.rule for finding in masked.findings}, data
            assert len(masked.data) == len(data)
            out.append(masked.data)
        again = b"\n".join(out)
        assert stars.mask(again).data is again
        # How the scanners differ depends on the form of a secret, not on its letters: one of each form is compared.
        records = b"\n".join(nested(around(template, seed=depth), depth) for template in rule.match)
        assert stars.mask(records) == plain.mask(records)


def test_each_rule_leaves_its_counter_examples(stars: Redactor) -> None:
    """Text that only resembles a secret is not a finding of this rule."""
    wrong = []
    for rule in RULES:
        for template in rule.miss:
            for data in (nested(around(template, 1), depth) for depth in (0, 1, 2)):
                if rule.id in {finding.rule for finding in stars.mask(data).findings}:
                    wrong.append((rule.id, data))
    assert not wrong, "\n".join(map(repr, wrong))


def test_a_written_trigger_ends_near_where_its_rule_begins() -> None:
    """The rule would not be tried at a place without its trigger, and the secret would stay readable."""
    wrong = []
    for rule in (rule for rule in RULES if rule.shape.scanned):
        trigger = re.compile(f"(?=({rule.shape.scanned}))".encode(), re.DOTALL)
        for template, depth, seed in itertools.product(rule.match, (0, 1, 2), SEEDS):
            data = nested(f"see here {expand(template, seed)} and there", depth)
            found = rule.regex.search(blank(data))
            ends = [match.end(1) for match in trigger.finditer(data)]
            if found is None or not any(0 < end - found.start() <= rule.shape.before for end in ends):
                wrong.append((rule.id, data))
    assert not wrong, "\n".join(map(repr, wrong))


def test_rules_are_complete() -> None:
    """Each rule has a description, examples of both kinds, and a unique id."""
    assert len({rule.id for rule in RULES}) == len(RULES) >= 100
    for rule in RULES:
        assert rule.description and rule.match and rule.miss, rule.id


def test_rules_of_gitleaks_can_be_added() -> None:
    """A rule in gitleaks' fields and Go's syntax is found in JSON; its allow-list and keywords hold."""
    extra = load_rules(
        r"""
        title = "mine"
        [allowlist]
        description = "shared"
        regexes = ['''^acme_test''']
        stopwords = ["sample"]
        [[rules]]
        id = "acme"
        description = "ACME token"
        regex = '''(?i)\bacme[\w.-]{0,9}[\s'"]{0,3}[=:][\x60'"\s=]{0,5}(acme_[[:alnum:]]{20})(?:[\x60'"\s]|\\[nr]|$)'''
        secretGroup = 1
        entropy = 2.5
        keywords = ["acme"]
        """
    )
    policy = Policy(extra=(extra,))
    token = expand("acme_<a20>", 7)
    text = json.dumps({"content": f'say\nacme_key = "{token}"\n'}).encode()
    other = json.dumps({"content": 'acme_key = "acme_sample7890123456xyz"'}).encode()
    for redactor in (Redactor(policy, engine="re"), Redactor(policy, rules=NO_RULES)):
        masked = redactor.mask(text)
        assert [finding.rule for finding in masked.findings] == ["acme"]
        assert token.encode() not in masked.data
        assert redactor.mask(other).data is other
    assert Redactor(policy, engine="re").version != Redactor(Policy(), engine="re").version


def test_an_expression_that_can_not_be_used_is_named() -> None:
    """The error names the rule, so that the user finds it among two hundred."""
    for regex in ("(unclosed", "x*", r"(a)\\1{2}(?P<n>b)(?P=n)?"):
        with pytest.raises(ConfigError, match=r"rules\.bad\.regex"):
            load_rules(f"[[rules]]\nid = 'bad'\nregex = '''{regex}'''", file="mine.toml")
    with pytest.raises(ConfigError):
        load_rules("[[rules]]\nid = 1")


def test_flags_in_the_middle_hold_to_the_end_of_their_group() -> None:
    """Go allows them there; Python does not."""
    assert from_go(r"a(?i)b|c\z") == r"a(?i:b|c\Z)"
    assert from_go(r"(x(?i)y)z[(?i)]") == "(x(?i:y))z[(?i)]"
    assert from_go(r"[[:alnum:]]\(") == r"[0-9A-Za-z]\("


def test_a_rule_with_a_path_holds_for_that_path_only() -> None:
    """`path` limits a rule to files; without a known path the rule holds."""
    extra = load_rules("[[rules]]\nid = 'p'\nregex = '''zz[0-9]{9}'''\npath = '''\\.env$'''")
    redactor = Redactor(Policy(extra=(extra,)), rules=NO_RULES)
    assert redactor.mask(b"zz123456789", path="/a/.env").findings
    assert not redactor.mask(b"zz123456789", path="/a/b.txt").findings
    assert redactor.mask(b"zz123456789").findings
