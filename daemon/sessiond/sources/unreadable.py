"""Tools whose sessions are recognised but not read, with the reason. docs/formats/unreadable.md has their facts."""

from __future__ import annotations

import os

import msgspec

from sessiond.sources.user_dirs import UserDirs

ENCRYPTED = "its chats are encrypted"
UNDESCRIBED = "the layout of its chats is not documented well enough to read them faithfully"
UNSEEN = "only the path of its sessions is known, not their format"


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that is recognised by a directory."""

    tool: str
    reason: str
    path: str
    """Begins with ~ (the home) or {config} (see UserDirs.config)."""

    def find(self, dirs: UserDirs) -> str | None:
        """Return the path of the tool's sessions; None if the tool is not installed."""
        path = self.path.replace("{config}", dirs.config)
        path = dirs.home + path[1:] if path.startswith("~") else path
        return path if os.path.exists(path) else None


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
    Unreadable(tool="deepseek-harness", reason=UNDESCRIBED, path="~/.dsh/sessions"),
    Unreadable(tool="codebuff", reason=UNSEEN, path="{config}/manicode/projects"),
    Unreadable(tool="zencoder", reason=UNSEEN, path="~/.zencoder/sessions"),
    Unreadable(tool="cortex-code", reason=UNSEEN, path="~/.snowflake/cortex/conversations"),
)
