"""What sources of VS Code and its relatives share: where those keep a user's data, and what a workspace is."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import msgspec

from sessiond.sources.base import Places
from sessiond.sources.records import parse


class _Workspace(msgspec.Struct):
    folder: str | None = None


WORKSPACE = msgspec.json.Decoder(_Workspace)


def folder_of(workspace: bytes) -> str | None:
    """Read the folder out of a `workspace.json` of VS Code and its relatives: a URI, percent-encoded (formats.md 2.5).

    None for a workspace of several folders. Raises: msgspec.DecodeError.
    """
    uri = parse(WORKSPACE, workspace).folder
    return (unquote(urlsplit(uri).path) or None) if uri else None


EDITORS = ("Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf", "Windsurf - Next", "Positron", "Kiro")
SERVERS = (".vscode-server", ".vscode-server-insiders", ".cursor-server", ".windsurf-server", ".kiro-server")


def user_data(places: Places) -> Iterator[str]:
    """Name the `User` directories of VS Code and its relatives, and of their servers (formats.md 2, 2.5)."""
    for editor in EDITORS:
        yield f"{places.config}/{editor}/User"
    for server in SERVERS:
        yield f"{places.home}/{server}/data/User"
