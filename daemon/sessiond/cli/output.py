"""Output of the commands: tables within 80 columns, sizes, ages, escaped names."""

from __future__ import annotations

import os
import sys

from sessiond import frozen_record
from sessiond.text import escape, escape_json

TYPE_CHECKING = False  # like `typing.TYPE_CHECKING`, without the import: `status` has a budget of 100 ms
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from typing import IO, Any

    from sessiond.config import Loaded

__all__ = [
    "WIDTH",
    "abbreviate_home",
    "age",
    "colored",
    "columns",
    "duration",
    "escape",
    "hanging",
    "load_config",
    "mask_text",
    "note",
    "print_json",
    "shorten",
    "size",
    "table",
    "tilde",
    "to_json",
    "use_mask",
    "warn",
    "wrapped",
]

WIDTH = 80
UNITS = frozenset({"B", "kB", "MB", "GB", "TB", "PB", "ms", "s", "min", "h", "d"})
_masks: list[Callable[[str], str]] = []


def use_mask(mask: Callable[[str], str] | None) -> None:
    """Set the function that masks secrets before a text is cut or wrapped; None to mask nothing."""
    _masks[:] = [] if mask is None else [mask]


def mask_text(text: str) -> str:
    """Return the text with its secrets masked, if this command masks its output."""
    return _masks[0](text) if _masks else text


def load_config(
    args: argparse.Namespace, *, tools: Collection[str] | None = None, valid: bool = False, masked: bool = False
) -> Loaded:
    """Load the configuration for a command and print its warnings to stderr.

    With `valid`, a problem is a warning, and what is valid is used: for commands that only read. With `masked` too, but
    a problem that may concern what is masked is an error: for commands that print text of the tools' files.

    Raises: ConfigError, unless `valid`.
    """
    from sessiond.config import load, load_valid

    loaded = (load_valid if valid or masked else load)(args.config, args.environ, tools=tools)
    if masked and (refused := loaded.masking_problem()) is not None:
        raise refused
    for warning in loaded.warnings:
        warn(warning)
    if loaded.problems:
        problem, more = loaded.problems[0], len(loaded.problems) - 1
        hint = f"\n  {problem.hint}" if problem.hint else ""
        ignored = f"it and {more} more" if more else "it"
        warn(f"{problem}{hint}\n  this command ignores {ignored}; see: sessiond config check")
    return loaded


def warn(text: str) -> None:
    """Print a warning to stderr."""
    print("\n".join(map(escape, f"sessiond: warning: {text}".split("\n"))), file=sys.stderr)


def print_json(answer: Any) -> None:
    """Print an answer as one line of JSON."""
    print(to_json(answer))


def to_json(answer: Any) -> str:
    """Return an answer as one line of JSON."""
    if isinstance(answer, frozen_record.FrozenRecord):
        return escape_json(frozen_record.to_json(answer))
    import msgspec

    return escape_json(msgspec.json.encode(answer, enc_hook=vars).decode())


def colored(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Return whether to use colour: on a terminal that supports it, unless NO_COLOR is set."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def columns(stream: IO[str]) -> int:
    """Return the width of the terminal; 80 columns if `stream` is not a terminal."""
    if not stream.isatty():
        return WIDTH
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns) or WIDTH
    except (OSError, ValueError):
        return WIDTH


def size(count: float) -> str:
    """Format bytes in at most seven characters, in powers of 1000: "999 B", "1.2 MB", "537 MB"."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        count /= 1000
        if count < 9.95:
            return f"{count:.1f} {unit}"
        if count < 999.5 or unit == "PB":
            break
    return f"{count:.0f} {unit}"


def duration(seconds: float) -> str:
    """Format a duration in its largest unit: "0 s", "59 s", "12 min", "3 h", "9 d"."""
    whole = max(0, int(seconds))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


def age(seconds: float | None) -> str:
    """Format an age: "just now", "12 min ago". A negative age is "just now"; None is "never"."""
    if seconds is None:
        return "never"
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def table(rows: Sequence[Sequence[str]], *, right: Collection[int] = (), flexible: int = -1, width: int = WIDTH) -> str:
    """Format rows as a table that fits `width`; the first row is the header.

    The columns in `right` are right-aligned. Text that does not fit is cut from the middle of the `flexible`
    column: the ends of a path say more than its middle.
    """
    if not rows:
        return ""
    cells = [[escape(cell) for cell in row] for row in rows]
    count = len(cells[0])
    flexible %= count
    widths = [max(len(row[index]) for row in cells) for index in range(count)]
    spare = width - sum(widths) - 2 * (count - 1)
    widths[flexible] = max(8, widths[flexible] + min(0, spare))
    lines = []
    for row in cells:
        parts = []
        for index, cell in enumerate(row):
            fitting = shorten(cell, widths[index])
            parts.append(fitting.rjust(widths[index]) if index in right else fitting.ljust(widths[index]))
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def wrapped(text: str, width: int, most: int | None = None) -> list[str]:
    """Wrap text at white space into lines of at most `width` characters. A longer word is cut, a path at a slash.

    A number stays with its unit. If there are more than `most` lines, the last one is shortened, but not the name of a
    file at its end.
    """
    width = max(20, width)
    words = _words(mask_text(text))
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
            continue
        lines += _split(word, width)
    if most is None or len(lines) - 1 <= most:
        return lines[1:] or [""]
    kept = lines[1:most]
    rest = " ".join(words).removeprefix(" ".join(kept)).lstrip()
    return [*kept, shorten_path(rest, width)]


def hanging(line: str, width: int) -> list[str]:
    """Wrap a line. All lines after the first are indented by two columns, and the first one if `line` is indented."""
    first, *more = wrapped(line, width - 2)
    return [f"  {first}" if line.startswith("  ") else first, *(f"  {part}" for part in more)]


def note(text: str) -> None:
    """Print a note about the answer to stderr, wrapped to its terminal."""
    print("\n".join(wrapped(text, columns(sys.stderr))), file=sys.stderr)


def _words(text: str) -> list[str]:
    """Split text at white space, but not between a number and its unit."""
    words: list[str] = []
    for word in text.split():
        if words and words[-1][-1:].isdigit() and word.rstrip(",.;:)") in UNITS:
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words


def _split(word: str, width: int) -> Iterator[str]:
    while len(word) > width:
        end = word.rfind("/", 1, width) + 1 or width
        yield word[:end]
        word = word[end:]
    yield word


def tilde(path: str, home: str) -> str:
    """Return a path with the home directory replaced by a tilde: ~/.config."""
    base = home.rstrip("/")
    within = bool(base) and f"{path}/".startswith(f"{base}/")
    return f"~{path[len(base) :]}" if within else path


def abbreviate_home(text: str, home: str) -> str:
    """Return a text with the home directory replaced by a tilde in every path."""
    base = home.rstrip("/")
    return text.replace(f"{base}/", "~/") if base else text


def shorten_path(text: str, width: int) -> str:
    """Shorten text that ends with a path: cut what is before the file's name, which stays whole if it fits at all."""
    name = f"…/{text.rpartition('/')[2]}"
    if len(text) <= width or "/" not in text or len(name) > width:
        return shorten(text, width)
    return mask_text(text)[: width - len(name)] + name


def shorten(text: str, width: int) -> str:
    """Shorten text to `width` characters by cutting its middle. Secrets are masked first: half of one is no match."""
    if len(text) <= width:
        return text
    text = mask_text(text)
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]
