"""A tool is one module, named after the tool, so that its format is found in one place and read in one sitting."""

from __future__ import annotations

import importlib
from pathlib import Path

import sessiond.sources

DIRECTORY = Path(sessiond.sources.__file__).parent
SHARED = {
    "__init__",
    "base",
    "content",
    "damaged",
    "documents",
    "links",
    "editors",
    "memory",
    "messages",
    "objects",
    "plan",
    "processes",
    "prompts",
    "projection",
    "recipes",
    "records",
    "registry",
    "root",
    "rows",
    "side_files",
    "titles",
    "tokens",
    "unreadable",
    "unrecognized",
    "user_dirs",
}
"""Modules that belong to no tool."""
NAMES = {"continue": "continue_dev"}
"""Tools whose name can't be a module's: `continue` is a keyword."""
LONGEST = 300
FILES = sorted(path.relative_to(DIRECTORY).as_posix() for path in DIRECTORY.rglob("*.py"))
MODULES = sorted({name.split("/")[0].removesuffix(".py") for name in FILES} - SHARED)


def test_a_module_is_at_most_300_lines_long() -> None:
    """A tool that needs more is a package."""
    lengths = {file: (DIRECTORY / file).read_text(encoding="utf-8").count("\n") for file in FILES}
    assert {file: length for file, length in lengths.items() if length > LONGEST} == {}


def test_a_module_has_the_sources_of_the_tool_that_it_is_named_after() -> None:
    """A fork has a module of its own, even if it is only a few lines long."""
    for module in MODULES:
        sources = importlib.import_module(f"sessiond.sources.{module}").SOURCES
        assert {NAMES.get(source.tool, source.tool.replace("-", "_")) for source in sources} == {module}


def test_a_shared_module_has_no_sources() -> None:
    for module in SHARED - {"__init__"}:
        assert not hasattr(importlib.import_module(f"sessiond.sources.{module}"), "SOURCES")
