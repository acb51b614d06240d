"""A conversation for a terminal or a pipe."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from sessiond.session import Item, ItemKind, Speaker
from sessiond.text import count, escape
from sessiond.transcript import labels
from sessiond.transcript.conversation import Step

if TYPE_CHECKING:
    from markdown_it.token import Token

FOLDED = 6
"""Lines of a result that are shown unless all are asked for."""
ADDED = 3
"""Lines that are shown of text which the tool added."""
INDENT = "  "


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """How a conversation is shown."""

    width: int | None = None
    """Columns to wrap at; None for a pipe, which gets the text as it is."""
    color: bool = False
    full: bool = False
    """Whether results and added text are shown in full."""


def render(
    steps: Iterable[Step], style: Style, beside: Callable[[Item], Iterable[str]] = lambda _: ()
) -> Iterator[str]:
    """Iterate the lines of a conversation, without control characters. The text keeps its Markdown in a pipe.

    `beside` returns lines that are shown after an item.
    """
    headings = labels.Headings(after_calls=True)
    day: date | None = None
    for step in steps:
        item = step.placed.whole
        if not labels.is_shown(item):
            continue
        at = labels.moment(item)
        if at is not None and at.date() != day:
            day = at.date()
            yield from ("", _dim(f"{day:%A, %d %B %Y}", style))
        who = headings.heading(step.thread.name, item)
        if who is not None:
            yield ""
            yield _heading(step, who, style)
        margin = INDENT * (step.depth + 1)
        yield from (f"{margin}{line}".rstrip() for line in _body(item, style, len(margin)))
        yield from (f"{margin}{_dim(escape(line), style)}" for line in beside(item))


def _heading(step: Step, who: str, style: Style) -> str:
    at = labels.moment(step.placed.item)
    where = "" if not step.depth else f"  ({escape(step.thread.name)})"
    time = "" if at is None else f"  {at:%H:%M}"
    return INDENT * step.depth + _bold(escape(who), style) + _dim(f"{time}{where}", style)


def _body(item: Item, style: Style, margin: int) -> Iterator[str]:
    """Iterate the lines of one item, without its margin."""
    width = None if style.width is None else max(style.width - margin, 20)
    if item.kind is ItemKind.CALL:
        said = f"> {item.name or 'tool'} {labels.call(item)}".rstrip()
        yield _shorten(escape(said), None if style.full else width)
    elif item.kind is ItemKind.RESULT:
        sign = "!" if item.failed else "="
        text = _fold(_plain(item.text, width), FOLDED, style)
        yield from (_dim(f"{sign if number == 0 else ' '} {line}", style) for number, line in enumerate(text))
    elif item.kind is ItemKind.THOUGHT:
        yield from (_dim(line, style) for line in _fold(_plain(f"(thinks) {item.text}", width), ADDED, style))
    elif item.kind is ItemKind.NOTE or item.injected:
        yield from (_dim(line, style) for line in _fold(_plain(item.text, width), ADDED, style))
    else:
        yield from _message(item, style, width)
    if media := labels.media(item):
        yield escape(media)


def _message(item: Item, style: Style, width: int | None) -> Iterator[str]:
    """Iterate the lines of a message: Markdown of the model is rendered on a terminal."""
    if width is None or item.speaker is not Speaker.ASSISTANT:
        yield from _plain(item.text.strip("\n"), width)
        return
    from rich.console import Console  # late: only a terminal needs it
    from rich.markdown import Markdown

    parsed = _parse("\n".join(map(escape, item.text.splitlines())))
    if parsed is None:
        yield from _plain(item.text.strip("\n"), width)
        return
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=style.color, color_system="standard" if style.color else None
    )
    markdown = Markdown("", hyperlinks=False)
    markdown.parsed = parsed
    console.print(markdown)
    yield from (line.rstrip() for line in out.getvalue().strip("\n").splitlines())


def _parse(text: str) -> list[Token] | None:
    """Return a message in Markdown as tokens for rich; None if some of its text would not be shown.

    Tags and the targets of links are text: they may be code without backticks (`List<int>`, `[x]: y`), and rich would
    print nothing for them. The parser leaves out what is nested deeper than its limit.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable("reference")
    parsed = parser.parse(text)
    if any(token.level >= parser.options.maxNesting - 1 for token in parsed):
        return None
    for token in chain(parsed, *(token.children or () for token in parsed)):
        if "&" in text:  # an entity may be an invisible character
            token.content = "\n".join(map(escape, token.content.split("\n")))
    return parsed


def _plain(text: str, width: int | None) -> Iterator[str]:
    """Iterate the lines of a text, wrapped at words."""
    from textwrap import wrap

    for line in text.expandtabs(4).splitlines() or [""]:
        shown = escape(line)
        if width is None or len(shown) <= width:
            yield shown
        else:
            yield from wrap(shown, width, drop_whitespace=True, replace_whitespace=False) or [""]


def _fold(lines: Iterator[str], limit: int, style: Style) -> Iterator[str]:
    """Iterate the first lines; the rest is a number, unless all are asked for."""
    left = 0
    for number, line in enumerate(lines):
        if style.full or number < limit:
            yield line
        else:
            left += 1
    if left:
        yield f"... {count(left, 'more line')} (--full)"


def _shorten(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else text[: width - 3] + "..."


def _bold(text: str, style: Style) -> str:
    return f"\x1b[1m{text}\x1b[0m" if style.color else text


def _dim(text: str, style: Style) -> str:
    return f"\x1b[2m{text}\x1b[0m" if style.color and text else text
