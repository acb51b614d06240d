"""Line numbers of the keys in a TOML text, for error messages; tomllib returns only values."""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]
"""Names of tables and keys; an integer is the index in an array of tables or in a list."""

_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_REST = re.compile(r"[^\n]*\n?")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?s:\\.|[^\\])*?"{3,5}'  # a closing delimiter may touch up to two quotes of the content
    r"|'''(?s:.)*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


def key_lines(text: str) -> dict[Path, int]:
    """Return the line number, from 1, of every table, key and list element of a TOML text.

    The text must be valid TOML; for other text the result is meaningless, but the function returns.
    """
    return _Walk(text).document()


class _Walk:
    """One pass over valid TOML that finds where values start and end, but does not parse them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.counted = 0
        self.line = 1
        self.found: dict[Path, int] = {}
        self.arrays: dict[Path, int] = {}

    def document(self) -> dict[Path, int]:
        table: Path = ()
        self.skip(_GAP)
        while self.at < len(self.text):
            start = self.at
            if self.peek() == "[":
                table = self.header()
            else:
                self.pair(table)
            self.skip(_GAP)
            if self.at == start:  # not TOML: stop instead of looping forever
                break
        return self.found

    def header(self) -> Path:
        several = self.text.startswith("[[", self.at)
        line = self.here()
        self.at += 2 if several else 1
        names = self.names()
        self.skip(_REST)
        path: Path = ()
        for depth, name in enumerate(names):
            path += (name,)
            self.found.setdefault(path, line)
            last = depth == len(names) - 1
            if several and last:
                self.arrays[path] = self.arrays.get(path, 0) + 1
            if path in self.arrays:
                path += (self.arrays[path] - 1,)
                self.found.setdefault(path, line)
        return path

    def pair(self, table: Path) -> None:
        line = self.here()
        path = table
        for name in self.names():
            path += (name,)
            self.found.setdefault(path, line)
        self.skip(_BLANK)
        if self.peek() == "=":
            self.at += 1
            self.value(path)

    def names(self) -> list[str]:
        names: list[str] = []
        while True:
            self.skip(_BLANK)
            word = self.take(_STRING) or self.take(_BARE)
            if not word:
                return names
            names.append(next(iter(tomllib.loads(f"{word} = 0"))))
            self.skip(_BLANK)
            if self.peek() != ".":
                return names
            self.at += 1

    def value(self, path: Path) -> None:
        self.skip(_BLANK)
        match self.peek():
            case "[":
                self.inside(path, "]")
            case "{":
                self.inside(path, "}")
            case _:
                if not self.take(_STRING):
                    self.take(_SCALAR)

    def inside(self, path: Path, close: str) -> None:
        self.at += 1
        index = 0
        self.skip(_GAP)
        while self.at < len(self.text) and self.peek() != close:
            start = self.at
            if close == "}":
                self.pair(path)
            else:
                self.found[(*path, index)] = self.here()
                self.value((*path, index))
            self.skip(_GAP)
            if self.peek() == ",":
                self.at += 1
                self.skip(_GAP)
            index += 1
            if self.at == start:
                return
        self.at += 1

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def take(self, pattern: re.Pattern[str]) -> str:
        start = self.at
        self.skip(pattern)
        return self.text[start : self.at]

    def here(self) -> int:
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.line
