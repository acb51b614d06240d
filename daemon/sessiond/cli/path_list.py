"""Shortens lists of paths, so that a session of many files fits a screen."""

from __future__ import annotations

from sessiond.text import count

LISTED = 8
"""Files of one directory that are listed one by one. If there are more, only their number is shown."""


def folded(paths: list[str]) -> list[str]:
    """Return the paths, or the number of files in a directory where there are many. The order stays."""
    directories: dict[str, list[str]] = {}
    for path in paths:
        directories.setdefault(path.rpartition("/")[0], []).append(path)
    lines: list[str] = []
    for directory, inside in directories.items():
        lines += inside if len(inside) <= LISTED else [f"{count(len(inside), 'file')} in {directory}/"]
    return lines


def shortened(paths: list[str]) -> list[str]:
    """Return the last path, which is the transcript, and how many more there are."""
    more = f", and {count(len(paths) - 1, 'more file')}" if len(paths) > 1 else ""
    return [f"{path}{more}" for path in paths[-1:]]
