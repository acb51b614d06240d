"""Rewrites regular expressions in Go's syntax (https://pkg.go.dev/regexp/syntax), in which gitleaks has its rules."""

from __future__ import annotations

import re

_POSIX = {
    "[:alnum:]": "0-9A-Za-z", "[:alpha:]": "A-Za-z", "[:digit:]": "0-9", "[:lower:]": "a-z", "[:upper:]": "A-Z",
    "[:space:]": r"\s", "[:word:]": r"\w", "[:xdigit:]": "0-9A-Fa-f", "[:punct:]": r"!-/:-@\[-`{-~",
}  # fmt: skip
_PIECE = re.compile(r"\\.|\[\^?\]?|\]|\(\?[a-z]+\)|\(\?P?<[A-Za-z_]\w*>|\(|\)|\[:[a-z]+:\]|[^\\()\[\]]+|.", re.DOTALL)


def from_go(regex: str) -> str:
    r"""Rewrite an expression in Go's syntax in Python's: POSIX classes, `\z`, and flags that begin in the middle."""
    if "[:" in regex:
        for name, members in _POSIX.items():
            regex = regex.replace(name, members)
    out: list[str] = []
    opened = [0]  # for each open group, how many flag groups of ours end with it
    in_class = False
    for piece in _PIECE.findall(regex):
        if in_class:
            in_class = piece != "]"
            out.append(piece)
        elif piece == r"\z":
            out.append(r"\Z")
        elif piece.startswith("[") and not piece.startswith("[:"):
            in_class = True
            out.append(piece)
        elif piece.startswith("(?") and piece.endswith(")"):
            out.append(f"(?{piece[2:-1]}:")
            opened[-1] += 1
        elif piece.startswith("("):
            opened.append(0)
            out.append(piece.replace("(?<", "(?P<"))
        elif piece == ")" and len(opened) > 1:
            out.append(")" * (opened.pop() + 1))
        else:
            out.append(piece)
    return "".join(out) + ")" * opened[0]
