"""Where VS Code and the editors built on it keep their data, for sources of editor extensions.

docs/formats/copilot-chat.md describes the directories.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import unquote, urlsplit

import msgspec

from sessiond.sources.base import UserDirs
from sessiond.sources.records import parse


class Editor(msgspec.Struct, frozen=True):
    """An editor of the VS Code family."""

    name: str
    """The name of its directory below the user's configuration directory."""
    server: str | None = None
    """The directory in the home that its remote server uses."""


VS_CODE = Editor("Code", ".vscode-server")
CURSOR = Editor("Cursor", ".cursor-server")
PEARAI = Editor("pearai")
EDITORS = (
    VS_CODE,
    Editor("Code - Insiders", ".vscode-server-insiders"),
    Editor("VSCodium"),
    CURSOR,
    Editor("Windsurf", ".windsurf-server"),
    Editor("Windsurf - Next"),
    Editor("Positron"),
    Editor("Kiro", ".kiro-server"),
)
"""The editors in which an extension may be installed. PearAI is not one of them: it ships its own extensions."""


class _Workspace(msgspec.Struct):
    folder: str | None = None


_WORKSPACE = msgspec.json.Decoder(_Workspace)


def workspace_folder(workspace: bytes) -> str | None:
    """Return the folder in a `workspace.json`, which is a percent-encoded URI; None for a workspace of several folders.

    Raises: msgspec.DecodeError.
    """
    uri = parse(_WORKSPACE, workspace).folder
    return (unquote(urlsplit(uri).path) or None) if uri else None


def user_data_dirs(dirs: UserDirs, editors: Iterable[Editor] = EDITORS) -> Iterator[str]:
    """Iterate over the `User` directories of the editors, then those of their remote servers."""
    editors = tuple(editors)
    for editor in editors:
        yield f"{dirs.config}/{editor.name}/User"
    for editor in editors:
        if editor.server:
            yield f"{dirs.home}/{editor.server}/data/User"
