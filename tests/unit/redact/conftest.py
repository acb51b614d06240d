"""One redactor of each kind for the whole run: compiling the rules takes a second."""

from __future__ import annotations

import pytest

from sessiond.redact import Policy, Redactor
from support.rules_cache import ORIGINALS

KEY = b"k" * 32


@pytest.fixture(scope="session")
def stars() -> Redactor:
    """Return the ordinary redactor."""
    return Redactor(Policy(mode="mask"))


@pytest.fixture(scope="session")
def plain() -> Redactor:
    """Return the redactor for machines without hyperscan."""
    return Redactor(Policy(mode="mask"), engine="re")


@pytest.fixture(scope="session")
def hashes() -> Redactor:
    """Return the redactor that writes a keyed hash."""
    return Redactor(Policy(mode="hash", key=KEY))


@pytest.fixture
def compile_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the real compiler, which these tests are about."""
    for (module, name), original in ORIGINALS.items():
        monkeypatch.setattr(module, name, original)
