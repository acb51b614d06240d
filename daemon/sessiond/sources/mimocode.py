"""MiMoCode, a fork of OpenCode: docs/formats/mimocode.md."""

from __future__ import annotations

from typing import ClassVar

from sessiond.sources.opencode import OpenCode


class MiMoCode(OpenCode):
    """Sessions of MiMoCode, in OpenCode's schema."""

    tool: ClassVar[str] = "mimocode"
    variables: ClassVar[tuple[str, ...]] = ()
    versions: ClassVar[tuple[str, ...]] = ("OpenCode's schema",)
    gaps: ClassVar[tuple[str, ...]] = (
        "no branch is stored; a parent would be in OpenCode's column, none was seen",
        "left out: snapshot/, log/, auth.json (keys), storage/migration, storage/project/",
    )
    folder: ClassVar[str] = "mimocode"


SOURCES = (MiMoCode(),)
