"""A conversation as one HTML file without scripts and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape as escape_html

from sessiond.session import Item, ItemKind
from sessiond.text import count, escape
from sessiond.transcript import labels
from sessiond.transcript.conversation import Step

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even if a browser found markup in a text, it would load nothing and run nothing."""
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
article { margin: 1.5rem 0; } h2 { font-size: 1rem; margin: 0 0 .25rem; } time { color: #777; font-weight: normal; }
pre { background: #8882; border-radius: .25rem; margin: .25rem 0; overflow-wrap: anywhere; padding: .5rem;
      white-space: pre-wrap; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; } .aside { border-left: .2rem solid #8886; padding-left: 1rem; }
.thought, .note, .injected { color: #777; } .failed { color: #b00; } dt { float: left; width: 8rem; color: #777; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd; } }
"""


def render(steps: Iterable[Step], title: str, facts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Iterate the lines of the page. Every text is escaped, so hostile content stays text."""
    yield from ("<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">')
    yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    yield '<meta name="viewport" content="width=device-width">'
    yield from (f"<title>{_text(title)}</title>", f"<style>{STYLE}</style>", "</head>", "<body>")
    yield f"<h1>{_text(title)}</h1>"
    yield f"<dl>{''.join(f'<dt>{_text(name)}</dt><dd>{_text(value)}</dd>' for name, value in facts)}</dl>"
    headings = labels.Headings()
    for step in steps:
        item = step.placed.whole
        if not labels.is_shown(item):
            continue
        new = headings.heading(step.thread.name, item) is not None
        heading, kind = _heading(step) if new else "", "aside" if step.depth else "main"
        yield f'<article class="{kind}">{heading}{_body(item)}</article>'
    yield from ("</body>", "</html>")


def _heading(step: Step) -> str:
    at = labels.moment(step.placed.item)
    where = f" ({step.thread.name})" if step.depth else ""
    time = f" <time>{at:%Y-%m-%d %H:%M}</time>" if at else ""
    return f"<h2>{_text(labels.speaker(step.placed.item) + where)}{time}</h2>"


def _body(item: Item) -> str:
    if item.kind is ItemKind.CALL:
        said = _text(f"{item.name or 'tool'} {labels.call(item)}")
        return f"<pre>{said}</pre>"
    if item.kind is ItemKind.RESULT:
        kind = ' class="failed"' if item.failed else ""
        lines = len(item.text.splitlines())
        summary = count(lines, "line")
        return f"<details><summary>{summary}</summary><pre{kind}>{_text(item.text)}</pre></details>"
    kind = "injected" if item.injected else item.kind.value
    media = labels.media(item)
    return f'<div class="text {kind}">{_text(item.text.strip())}{_text(media)}</div>'


def _text(text: str) -> str:
    """Return a text for HTML: one line after the other, without control characters."""
    return escape_html("\n".join(map(escape, text.splitlines())))
