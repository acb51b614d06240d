"""Paths of streams that have no file of their own: those of a session in a container, or made from several files."""

from __future__ import annotations

import os


def inner_path(path: str, native_id: str, stream: str = "main") -> str:
    """Return the path of a stream in a container: `<file>::<native id>`, with `::<stream>` unless it is the main one.

    The native id is empty if the file has one session only.
    """
    return f"{path}::{native_id}::{'' if stream == 'main' else stream}".rstrip(":")


def outer_path(path: str) -> tuple[str, str]:
    """Split a result of `inner_path` into the file and the native id."""
    if os.path.lexists(path):
        return path, ""  # a file name of the tool may contain "::"
    file, native_id, *_ = f"{path}::".split("::")
    return file, native_id
