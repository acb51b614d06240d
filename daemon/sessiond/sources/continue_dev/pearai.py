"""PearAI's chats, kept by its fork of Continue: formats.md 2.14 Layout history; core/index.d.ts of pearai-submodule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from sessiond.sources.base import Portrait, Unit
from sessiond.sources.continue_dev.tool import Continue
from sessiond.sources.records import compact, parse


class _Searched(msgspec.Struct, rename="camel"):
    perplexity_history: list[msgspec.Raw] = []


SEARCHED = msgspec.json.Decoder(_Searched)


class PearAI(Continue):
    """Chats of PearAI, in the shape that Continue had before its models could call tools."""

    tool: ClassVar[str] = "pearai"
    versions: ClassVar[tuple[str, ...]] = ("2025 (chats)",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch, parent or times are kept: the index and the file's time stand in",
        "chats where CONTINUE_GLOBAL_DIR says, which it follows too: they are taken for Continue's",
    )
    folder: ClassVar[str] = ".pearai"
    variable: ClassVar[str] = ""

    def project(self, files: Mapping[str, bytes], unit: Unit) -> Iterable[Portrait]:
        """Lay out a chat; one with its search has the same items in another list, and none in the first."""
        yield from super().project(files, unit)
        for content in files.values():
            searched = [compact(item) for item in parse(SEARCHED, content).perplexity_history]
            yield Portrait(native_id=unit.native_id or "", stream="search", records=searched)
