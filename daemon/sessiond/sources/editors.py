"""The data directories of VS Code and editors built on it, for sources of editor extensions.

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
    flatpak: str | None = None
    """Its id as a Flatpak, which keeps its configuration in ~/.var/app/<id>."""
    snap: str | None = None
    """Its name as a snap, which keeps its configuration in ~/snap/<name>/current."""


VS_CODE = Editor("Code", ".vscode-server", "com.visualstudio.code", "code")
CURSOR = Editor("Cursor", ".cursor-server", "com.cursor.Cursor")
CURSORS = (CURSOR, Editor("Cursor Nightly"), Editor("Cursor - Insiders"))
"""Cursor and its early releases, which have directories of their own."""
PEARAI = Editor("pearai", ".pearai-server")
EDITORS = (
    VS_CODE,
    Editor("Code - Insiders", ".vscode-server-insiders", "com.visualstudio.code.insiders", "code-insiders"),
    Editor("Code - OSS", ".vscode-server-oss", "com.visualstudio.code-oss"),
    Editor("VSCodium", ".vscodium-server", "com.vscodium.codium", "codium"),
    Editor("VSCodium - Insiders", ".vscodium-server-insiders", "com.vscodium.codium-insiders"),
    *CURSORS,
    Editor("Windsurf", ".windsurf-server"),
    Editor("Windsurf - Next", ".windsurf-next-server"),
    Editor("Positron", ".positron-server"),
    Editor("Kiro", ".kiro-server"),
    Editor("Antigravity", ".antigravity-server"),
    Editor("Trae", ".trae-server"),
    Editor("Trae CN", ".trae-cn-server"),
    Editor("TRAE SOLO"),
    Editor("TRAE SOLO CN"),
    Editor("Void", ".void-server"),
    Editor("Qoder", ".qoder-server"),
    Editor("CodeBuddy"),
    Editor("CodeBuddy CN"),
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


def user_data_dirs(dirs: UserDirs, editors: Iterable[Editor] | None = None) -> Iterator[str]:
    """Iterate over the `User` directories of the editors: native, of their remote servers, in Flatpaks and in snaps.

    Without `editors`: those of all that take extensions, and of VS Code in a browser (code-server, OpenVSCode Server,
    Codespaces, Google's Cloud Workstations and Firebase Studio).
    """
    for editor in EDITORS if editors is None else editors:
        yield f"{dirs.config}/{editor.name}/User"
        if editor.server:
            yield f"{dirs.home}/{editor.server}/data/User"
        if editor.flatpak and dirs.platform == "linux":
            yield f"{dirs.home}/.var/app/{editor.flatpak}/config/{editor.name}/User"
        if editor.snap and dirs.platform == "linux":
            yield f"{dirs.home}/snap/{editor.snap}/current/.config/{editor.name}/User"
    if editors is None:
        yield f"{dirs.share}/code-server/User"
        yield f"{dirs.home}/.openvscode-server/data/User"
        yield f"{dirs.home}/.vscode-remote/data/User"
        yield f"{dirs.home}/.codeoss-cloudworkstations/data/User"
