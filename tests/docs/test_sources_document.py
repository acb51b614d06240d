"""docs/sources.md says what the code and the samples say."""

from __future__ import annotations

import os
from pathlib import Path

from sources_document import PLACE, document

from sessiond.sources import UNREADABLE, find_sources
from sessiond.sources.base import Places


def test_the_page_is_what_the_code_says() -> None:
    """If not: `PYTHONPATH=daemon:tests python tests/docs/sources_document.py`."""
    assert PLACE.read_text(encoding="utf-8") == document()


def test_a_tool_that_cannot_be_read_is_recognised(tmp_path: Path) -> None:
    """By its directory; and none of them is one that is read."""
    places = Places(home=str(tmp_path), environ={}, platform="linux")
    assert [tool.find(places) for tool in UNREADABLE] == [None] * len(UNREADABLE)
    os.makedirs(tmp_path / ".codeium/windsurf/cascade")
    assert [tool.tool for tool in UNREADABLE if tool.find(places)] == ["windsurf"]
    assert not {tool.tool for tool in UNREADABLE} & {source.tool for source in find_sources()}
