"""ICodeMate, a fork of OpenCode: docs/formats/icodemate.md."""

from __future__ import annotations

from typing import ClassVar

from sessiond.sources.opencode import OpenCode


class ICodeMate(OpenCode):
    """Sessions of ICodeMate, in OpenCode's schema."""

    tool: ClassVar[str] = "icodemate"
    variables: ClassVar[tuple[str, ...]] = ()
    versions: ClassVar[tuple[str, ...]] = ("OpenCode's schema",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no branch is stored; a parent would be in OpenCode's column, none was seen",
        "left out: snapshot/, log/, auth.json (keys), storage/migration, storage/project/",
    )
    folder: ClassVar[str] = "icodemate"


SOURCES = (ICodeMate(),)
