"""Kiro's command line, the successor of Amazon Q's: docs/formats/kiro.md."""

from __future__ import annotations

from typing import ClassVar

from sessiond.sources.amazon_q import AmazonQ


class Kiro(AmazonQ):
    """Conversations of Kiro's command line that are in its database, which has times."""

    tool: ClassVar[str] = "kiro"
    versions: ClassVar[tuple[str, ...]] = ("CLI of 2026 (conversations_v2)",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version, branch, title or parent is stored",
        "the descriptions of tools and the files in context, which repeat for each conversation",
        "the editor's chats and the command line's files in ~/.kiro are not read: the layout is not documented",
    )
    folder: ClassVar[str] = "kiro-cli"
    timeless: ClassVar[bool] = False


SOURCES = (Kiro(),)
