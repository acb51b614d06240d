"""docs/formats has a page for each tool with the facts that its source relies on, and no reference is dangling."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sessiond.sources import UNREADABLE, find_sources
from sessiond.sources.base import Memory

ROOT = Path(__file__).parents[2]
FORMATS = ROOT / "docs" / "formats"
HEADINGS = [
    "Where",
    "Records",
    "Messages",
    "Fields",
    "Copies and subagents",
    "Retention",
    "Versions",
    "Gaps",
    "References",
]
TOOLS = sorted({source.tool for source in find_sources()})
GENERAL = {"README", "unreadable"}
CHECKED = ("daemon", "docs", "tests", "bench", "systemd", "launchd")
"""Directories whose files may mention documents; also the files at the root."""
NO_DOCUMENTS = {
    ".aider.chat.history.md": "Aider's history",
    ".handoff.md": "the suffix of an exported prompt",
    "AGENTS.md": "instructions for agents, in a project",
    "MEMORY.md": "Claude Code's memory, in a lab script",
    "changelog.md": "in GitHub's repository of Copilot CLI",
}
"""What has the suffix of a document and is none of ours."""
NUMBERED = ("RFC", "How To Corrupt An SQLite Database File")
"""Public documents whose sections have numbers."""
DOCUMENT = re.compile(r"(?<![\w*{}-])((?:[\w-]+/)*\.?[\w.-]+\.md)\b(?![\w*-])")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page(tool: str) -> str:
    return (FORMATS / f"{tool}.md").read_text(encoding="utf-8")


def texts() -> list[Path]:
    """List the files of the repository in which references are checked."""
    found = [path for path in ROOT.iterdir() if path.suffix in {".md", ".toml"} and path.name != "uv.lock"]
    for name in CHECKED:
        found += [path for path in (ROOT / name).rglob("*") if path.suffix in {".py", ".md", ".sh", ".toml"}]
    return [path for path in found if "samples" not in path.parts and path != Path(__file__)]


def test_every_source_has_its_page_and_every_page_a_source() -> None:
    assert sorted({path.stem for path in FORMATS.glob("*.md")} - GENERAL) == TOOLS


@pytest.mark.parametrize("tool", TOOLS)
def test_a_page_has_the_required_headings(tool: str) -> None:
    text = re.sub(BLOCK, "", page(tool))
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    sections = re.split(r"^## .+$", text, flags=re.MULTILINE)
    assert all(section.strip() for section in sections)
    assert "](http" in sections[-1]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_page_names_what_the_source_reads(tool: str) -> None:
    """The page names the source's environment variables and existing scripts of the lab; the module names the page."""
    sources = [source for source in find_sources() if source.tool == tool]
    assert [name for source in sources for name in source.variables if name not in page(tool)] == []
    module = Path(__import__(type(sources[0]).__module__, fromlist=["SOURCES"]).__file__ or "")
    assert f"docs/formats/{tool}.md" in module.read_text(encoding="utf-8")
    assert [name for name in re.findall(r"`(tests/[^`]+)`", page(tool)) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("tool", TOOLS)
def test_the_examples_are_records_that_a_source_of_the_tool_decodes(tool: str) -> None:
    """The source decodes each without an error or an unknown type, so an example can't be of another format."""
    blocks = BLOCK.findall(page(tool))
    assert all(json.loads(line) for kind, body in blocks if kind == "json" for line in body.splitlines())
    records = [line for kind, body in blocks if kind == "jsonl" for line in body.splitlines()]
    assert records
    unknown = {}
    for source in find_sources():
        if source.tool == tool:
            memory: Memory = {}
            entries = [source.decode(record.encode(), memory) for record in records]
            unknown[type(source).__name__] = [entry.unknown for entry in entries if entry and entry.unknown]
    assert [] in unknown.values(), unknown


def test_the_list_of_unreadable_tools_is_complete() -> None:
    text = page("unreadable")
    for tool in UNREADABLE:
        path = tool.path.replace("{config}", "~/.config")
        assert f"| {tool.tool} | `{path}` | {tool.reason} |" in text
    assert text.count("\n| ") == len(UNREADABLE) + 1


def test_no_reference_dangles() -> None:
    """Code and documents mention only documents that are in the repository, so that a reader can look up each fact."""
    missing = []
    for path in texts():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for name in DOCUMENT.findall(re.sub(r"https?://\S+", "", line)):
                places = (ROOT / name, path.parent / name, ROOT / "docs" / name)
                if name.split("/")[-1] not in NO_DOCUMENTS and not any(place.is_file() for place in places):
                    missing.append(f"{path.relative_to(ROOT)}:{number}: {name}")
    assert missing == []


def test_no_numbered_section_is_cited() -> None:
    """Our documents have no numbers, so such a reference leads nowhere."""
    cited = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"\b[Ss]ections? \d|\bfield-notes\b", line) and not any(name in line for name in NUMBERED)
    ]
    assert cited == []


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda it: it.stem
)
def test_every_link_between_documents_leads_somewhere(path: Path) -> None:
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        file = (path.parent / target) if target else path
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}, anchor
