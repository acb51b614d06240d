"""The files around the code are true: paths in documents, versions of Python, targets of make, the version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import sessiond

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
QUOTED = re.compile(r"`([\w./-]+)`")
BASES = (
    ROOT,
    ROOT / "daemon/sessiond",
    ROOT / "daemon/sessiond/endpoint",
    ROOT / "daemon/sessiond/sources",
    ROOT / "docs",
)
"""Where a path in a document may begin."""
STATE = {"pins/", "archive/", "log/", "config.d/", "rules/", ".mutants/"}
"""Directories of an installation, and those that a command makes in a checkout."""
SUFFIXES = (".py", ".toml", ".yml", ".md", ".json", ".sql", "/")
NOT_OURS = re.compile(r"[/~]|\./|config\.d/|(.*/)?(device|config|state|settings|expected|policy)\.(toml|json|db\.sql)$")
"""Files of an installation, of a tool, or of a sample."""


def paths(text: str) -> list[str]:
    """Return what a document quotes as a path in the repository."""
    found = [name for name in QUOTED.findall(text) if name.endswith(SUFFIXES) and not NOT_OURS.match(name)]
    return [name for name in dict.fromkeys(found) if name not in STATE]


PROSE = [*PAGES, *sorted((ROOT / "docs/formats").glob("*.md"))]
CODE_LINE = re.compile(r" {4,}|\||\{")
"""The start of a line that is not wrapped: an indented block, a row of a table, a record in an example."""


def test_prose_has_at_most_120_columns() -> None:
    """A terminal and a review show whole lines; tables and examples can't be wrapped."""
    lines = ((page.name, line) for page in PROSE for line in page.read_text(encoding="utf-8").splitlines())
    assert [(name, line) for name, line in lines if len(line) > 120 and not CODE_LINE.match(line)] == []


def test_a_release_takes_a_minute_to_read() -> None:
    """The changelog is for users: each release has at most twenty lines without its headings."""
    releases = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1:]
    lengths = {
        each.partition("\n")[0]: sum(bool(line) and line[0] != "#" for line in each.splitlines()[1:])
        for each in releases
    }
    assert {name: length for name, length in lengths.items() if length > 20} == {}
    assert lengths, "there is a release"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_document_quotes_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [name for name in paths(text) if not any((base / name).exists() for base in BASES)] == []


def test_a_path_that_is_gone_is_found() -> None:
    text = "`daemon/sessiond/gone.py`, `tests/endpoint`, `~/.config/x.toml`, `spool/` and `gone/`"
    found = paths(text)
    assert found == ["daemon/sessiond/gone.py", "spool/", "gone/"]


def test_hosted_checks_run_the_gate_on_every_python_that_is_promised() -> None:
    """The classifiers of the package promise them."""
    promised = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    gate = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]["gate"]
    assert gate["strategy"]["matrix"] == {"os": ["ubuntu-latest", "macos-latest"], "python": promised}
    assert [step["run"] for step in gate["steps"] if "run" in step] == [".ci/run"]


def test_hooks_run_programs_of_the_private_environment() -> None:
    """A commit is checked with the versions that `make check` uses, without a download."""
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    assert all(hook["entry"].startswith(".venv/bin/") for hook in repos[0]["hooks"])


def test_every_form_is_yaml() -> None:
    for path in [*(ROOT / ".github").rglob("*.yml")]:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path


def test_every_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"(?:^ {4}|`)make ([a-z][a-z -]*[a-z])", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert {name for line in named for name in line.split()} <= targets, page.name


def test_the_version_can_stand_in_a_header() -> None:
    """The client sends it as its User-Agent, so it has only characters that RFC 9110 allows in a token."""
    assert re.fullmatch(r"[0-9][\w.+-]*", sessiond.__version__)
    assert re.fullmatch(r"\d+(\.\d+)*\.dev0", _fallback())


def _fallback() -> str:
    (found,) = re.findall(r'^fallback-version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    return str(found)


def test_the_names_of_test_modules_are_unique() -> None:
    """pytest imports them by their base names, so the second of two with one name can't be collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
