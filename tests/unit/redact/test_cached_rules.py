"""Data derived from rules is cached, so a start with a warm cache parses no expression."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from sessiond.errors import ConfigError
from sessiond.privacy.terms import Terms
from sessiond.redact import Policy, Redactor, redactor, rule_file, scanner
from sessiond.redact.cache import read, store
from sessiond.redact.rules import load_rules
from support.rules_cache import put_rules

RULES = """
[[rules]]
id = "own"
regex = '''\\bown_([[:alnum:]]{20})\\b'''
keywords = ["own_"]
[[rules.allowlists]]
regexes = ['''EXAMPLE''']
[[rules]]
id = "of-files"
path = '''\\.p12$'''
[wrapped]
prefixes = ["own_"]
"""
pytestmark = pytest.mark.usefixtures("compile_each_time")
BROKEN = "[[rules]]\nid = 'own'\nregex = '''own_([a-z'''"
NO_GROUP = "[[rules]]\nid = 'own'\nregex = '''own_[a-z]{9}'''\nsecretGroup = 3"


def forbid_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every step fail that a warm start does not need."""

    def fail(*_arguments: object, **_named: object) -> NoReturn:
        raise AssertionError("a warm start does not derive anything")

    for name in ("derive", "from_go", "_prepare", "_check"):
        monkeypatch.setattr(rule_file, name, fail)
    monkeypatch.setattr(rule_file.tomllib, "loads", fail)
    for name in ("_build", "compile_expressions"):
        monkeypatch.setattr(scanner, name, fail)


def test_a_daemon_of_a_test_starts_with_all_that_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each daemon that a test starts would otherwise spend a second on the rules."""
    put_rules(str(tmp_path))
    forbid_work(monkeypatch)
    redactor = Redactor(Policy(), cache_dir=str(tmp_path / "rules"))
    assert redactor.rules and redactor.engine != "off"


def test_a_warm_start_parses_no_expression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It parses neither the built-in rules nor a user's; both starts find the same."""
    monkeypatch.setattr(redactor, "make_scanner", lambda *_: scanner.PlainScanner([]))
    terms = Terms(policy=Policy(mode="mask"), rules=(("own.toml", RULES),))
    cold = Redactor(terms.complete(str(tmp_path)), cache_dir=str(tmp_path))
    forbid_work(monkeypatch)
    warm = Redactor(terms.complete(str(tmp_path)), cache_dir=str(tmp_path))
    terms.check(str(tmp_path))
    assert warm.version == cold.version and warm.rules == cold.rules
    assert [rule.id for rule in warm.rules][-1] == "own"


def test_a_warm_start_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is found by what was cached, and finds the same secrets."""
    secret = b'{"a": "own_Ab1Cd2Ef3Gh4Ij5Kl6Mn"}\n'

    def masked() -> bytes:
        rules = load_rules(RULES, cache_dir=str(tmp_path))
        return Redactor(Policy(), cache_dir=str(tmp_path), rules=rules).mask(secret).data

    cold = masked()
    assert b"Cd2Ef3" not in cold and sorted(name.split(".")[-1] for name in os.listdir(tmp_path)) == ["hsdb", "shapes"]
    forbid_work(monkeypatch)
    assert masked() == cold


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xc1", b"\x93\xc0\xc0\xc0", b"\x93\x80\x90\x91\xa3own"])
def test_a_damaged_cache_is_replaced(content: bytes, tmp_path: Path) -> None:
    """Its digest may be wrong, or its content may not be what this version expects."""
    cold = load_rules(RULES, cache_dir=str(tmp_path))
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    for damage in (lambda: path.write_bytes(content), lambda: store(str(path), content)):
        damage()
        assert load_rules(RULES, cache_dir=str(tmp_path)) == cold
        assert path.read_bytes() == whole


def test_a_cache_that_others_can_write_is_not_read(tmp_path: Path) -> None:
    """Another user could weaken the rules in it."""
    load_rules(RULES, cache_dir=str(tmp_path))
    [path] = tmp_path.iterdir()
    store(str(path), b"")
    path.chmod(0o666)
    assert read(str(path)) is None
    assert load_rules(RULES, cache_dir=str(tmp_path)).rules[0].id == "own"


@pytest.mark.parametrize("text", [BROKEN, NO_GROUP, "[[rules]]\nid = 7"])
def test_rules_that_are_not_valid_are_reported_at_each_start(text: str, tmp_path: Path) -> None:
    """Invalid rules are never cached."""
    for _ in range(2):
        with pytest.raises(ConfigError):
            load_rules(text, file="own.toml", cache_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_other_rules_and_other_code_have_another_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version of this program may derive something else from the same rules."""
    paths = [rule_file._cache_path(RULES, str(tmp_path)), rule_file._cache_path(RULES + "\n", str(tmp_path))]
    for name in rule_file._DERIVING:
        (tmp_path / name).write_bytes(Path(rule_file.__file__).with_name(name).read_bytes())
    monkeypatch.setattr(rule_file, "__file__", str(tmp_path / "rule_file.py"))
    assert rule_file._cache_path(RULES, str(tmp_path)) == paths[0]
    for name in rule_file._DERIVING:
        with open(tmp_path / name, "ab") as source:
            source.write(b"#")
        paths.append(rule_file._cache_path(RULES, str(tmp_path)))
    assert len(set(paths)) == len(paths)
    os.unlink(tmp_path / "shape.py")
    assert rule_file._cache_path(RULES, str(tmp_path)) is None
    assert load_rules(RULES, cache_dir=str(tmp_path)).rules[0].id == "own"


def test_the_process_that_compiles_imports_little() -> None:
    """Its memory adds to the daemon's at the first start."""
    program = "import sys; known = set(sys.modules); import sessiond.redact.build; print(*set(sys.modules) - known)"
    made = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    ours = {name for name in made.stdout.split() if name.startswith("sessiond")}
    assert ours <= {"sessiond", "sessiond._version", "sessiond.redact", "sessiond.redact.build"}
    assert not {"msgspec", "subprocess", "hashlib", "typing", "re"} & set(made.stdout.split())
