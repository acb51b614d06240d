"""The tools that sessiond reads. A module in this package that has `SOURCES` is found by itself."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache

import msgspec

from sessiond.config import Config
from sessiond.sources.base import Places, Root, Source, Watch


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that is recognised by a directory, and why its sessions can't be read."""

    tool: str
    reason: str
    path: str
    """Begins with ~ (the home) or {config} (see Places.config)."""

    def find(self, places: Places) -> str | None:
        """Tell where the tool keeps its sessions; None where it is not installed."""
        path = self.path.replace("{config}", places.config)
        path = places.home + path[1:] if path.startswith("~") else path
        return path if os.path.exists(path) else None


ENCRYPTED = "its chats are encrypted"
UNDESCRIBED = "the layout of its chats is not described well enough to read it faithfully"
UNSEEN = "only the place of its sessions is known, not what they hold"
UNREADABLE = (
    Unreadable(tool="windsurf", reason=ENCRYPTED, path="~/.codeium/windsurf/cascade"),
    Unreadable(tool="antigravity (1.0.9 and before)", reason=ENCRYPTED, path="~/.gemini/antigravity/conversations"),
    Unreadable(tool="trae", reason=ENCRYPTED, path="{config}/Trae/User/globalStorage"),
    Unreadable(tool="chatgpt-desktop", reason=ENCRYPTED, path="~/Library/Application Support/com.openai.chat"),
    Unreadable(tool="kiro (editor)", reason=UNDESCRIBED, path="{config}/Kiro/User/globalStorage/kiro.kiroagent"),
    Unreadable(tool="kiro (files)", reason=UNDESCRIBED, path="~/.kiro/sessions"),
    Unreadable(tool="junie", reason=UNDESCRIBED, path="~/.junie/sessions"),
    Unreadable(tool="jetbrains-ai", reason=UNDESCRIBED, path="{config}/JetBrains"),
    Unreadable(tool="copilot-jetbrains", reason=UNDESCRIBED, path="~/.copilot/jb"),
    Unreadable(tool="devin-cli", reason=UNDESCRIBED, path="~/.local/share/devin/cli"),
    Unreadable(tool="codebuddy (editor)", reason=UNDESCRIBED, path="{config}/CodeBuddyExtension/Data"),
    Unreadable(tool="workbuddy", reason=UNSEEN, path="~/.workbuddy/projects"),
    Unreadable(tool="prime-agent", reason=UNDESCRIBED, path="~/.prime/agent/sessions"),
    Unreadable(tool="deepseek-tui", reason=UNSEEN, path="~/.deepseek/sessions"),
    Unreadable(tool="codewhale", reason=UNSEEN, path="~/.codewhale/sessions"),
    Unreadable(tool="deepseek-harness", reason=UNDESCRIBED, path="~/.dsh/sessions"),
    Unreadable(tool="codebuff", reason=UNSEEN, path="{config}/manicode/projects"),
    Unreadable(tool="forgecode", reason=UNSEEN, path="~/.forge/.forge.db"),
    Unreadable(tool="zencoder", reason=UNSEEN, path="~/.zencoder/sessions"),
    Unreadable(tool="gptme", reason=UNSEEN, path="~/.local/share/gptme/logs"),
    Unreadable(tool="cortex-code", reason=UNSEEN, path="~/.snowflake/cortex/conversations"),
    Unreadable(tool="llm", reason=UNSEEN, path="{config}/io.datasette.llm/logs.db"),
)
"""Tools that `sessiond sources` and docs/sources.md name with a reason (formats.md 2.12, 2.18, 2.19, 2.25, 3)."""


@cache
def find_sources() -> tuple[Source, ...]:
    """Find every source, ordered by the tool's name."""
    found: list[Source] = []
    for module in pkgutil.iter_modules(__path__):
        found += getattr(importlib.import_module(f"{__name__}.{module.name}"), "SOURCES", ())
    return tuple(sorted(found, key=lambda source: source.tool))


def find_places(config: Config, environ: Mapping[str, str]) -> list[tuple[Source, Root]]:
    """List the roots of every enabled source, the configured ones included."""
    here = Places.here(environ)
    places: list[tuple[Source, Root]] = []
    for source in find_sources():
        settings = config.sources.get(source.tool)
        if settings is not None and not settings.enabled:
            continue
        places += [(source, root) for root in source.roots(here)]
        if settings is not None:
            places += [(source, Root(path=path)) for path in settings.roots]
    unique = {(source, root.path): (source, root) for source, root in places}
    return list(unique.values())


GUARDED = ("Documents", "Desktop", "Downloads", "Library")
"""Directories of a home on macOS where even a look makes the system ask its user (formats.md 1.9)."""


def find_in_projects(
    config: Config, environ: Mapping[str, str], directories: Iterable[str]
) -> list[tuple[Source, Root]]:
    """List the roots of sources that keep sessions in projects: where their landmark stands.

    `directories` are working directories of sessions; a project may begin above. The home is never searched.
    """
    here, found = Places.here(environ), dict[str, None]()
    for directory in directories:
        path = directory.rstrip("/")
        while path.startswith(here.home.rstrip("/") + "/") and path not in found:
            if here.platform != "darwin" or path[len(here.home) :].split("/")[1] not in GUARDED:
                found[path] = None
            path = os.path.dirname(path)
        if os.path.isabs(path) and path != here.home:
            found[path] = None
    return [
        (source, Root(path=path, watch=Watch.FLAT, depth=0, cwd=path))
        for source in find_sources()
        if source.landmark and ((settings := config.sources.get(source.tool)) is None or settings.enabled)
        for path in found
        if os.path.lexists(os.path.join(path, source.landmark))
    ]
