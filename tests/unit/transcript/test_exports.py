"""A shared session is readable, complete, and harmless whatever it contains."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import msgspec

from sessiond.session import Item, ItemKind, Media, Speaker
from sessiond.transcript import Place, Placed, Step, Thread, converse, markdown, page

HOSTILE = "<script>alert(1)</script><img src=x onerror=y>\"'&\x1b[2J````\n```js\n<b>bold</b>"


def item(kind: ItemKind, speaker: Speaker, text: str = "", **facts: Any) -> Item:
    return Item(kind=kind, speaker=speaker, text=text, **facts)


def conversation() -> list[Step]:
    arguments = msgspec.Raw(msgspec.json.encode({"command": HOSTILE}))
    main = [
        item(ItemKind.MESSAGE, Speaker.USER, f"please {HOSTILE}", time_ms=1_780_000_000_000),
        item(ItemKind.MESSAGE, Speaker.USER, "a reminder", injected=True),
        item(ItemKind.THOUGHT, Speaker.ASSISTANT, HOSTILE),
        item(ItemKind.MESSAGE, Speaker.ASSISTANT, "# Done\n\n- one", model=f"model{HOSTILE}"),
        item(ItemKind.CALL, Speaker.ASSISTANT, name=f"Bash{HOSTILE}", arguments=arguments, call="c1"),
        item(ItemKind.RESULT, Speaker.TOOL, HOSTILE * 200, call="c1", stream="agent", failed=True),
        item(ItemKind.MESSAGE, Speaker.USER, media=(Media(type=f"image/png{HOSTILE}", size=3, name=HOSTILE),)),
        item(ItemKind.USAGE, Speaker.SYSTEM),
    ]
    agent = [item(ItemKind.MESSAGE, Speaker.USER, f"count {HOSTILE}")]
    threads = [("main", True, main), ("agent", False, agent)]
    placed = [
        Thread(name, first, [Placed(Place(at, 1), each) for at, each in enumerate(items)])
        for name, first, items in threads
    ]
    return list(converse(placed))


class Elements(HTMLParser):
    """Collects the elements, attributes and texts that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_page_is_inert_whatever_is_in_it() -> None:
    whole = "\n".join(page.render(conversation(), HOSTILE, [(HOSTILE, HOSTILE)]))
    seen = Elements()
    seen.feed(whole)
    assert not seen.tags & {"script", "img", "b", "a", "iframe", "link", "form", "svg", "object"}
    assert seen.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class"}
    assert "default-src 'none'" in whole and "\x1b" not in whole
    assert sum("<script>alert(1)</script>" in text for text in seen.texts) > 5, "and nothing of it is missing"


def test_no_text_ends_the_fence_around_it() -> None:
    lines = list(markdown.render(conversation()))
    fences = [line for line in lines if line and not line.strip("`")]
    assert len(fences) % 2 == 0
    for opening, closing in zip(fences[::2], fences[1::2], strict=True):
        assert opening == closing
    block = lines[lines.index(fences[0]) + 1 :]
    assert all(len(line) < len(fences[0]) or line.strip("`") for line in block[: block.index(fences[0])])


def test_markdown_has_a_heading_for_each_speaker_and_no_injected_text() -> None:
    lines = list(markdown.render(conversation()))
    headings = [line.partition(" ")[0] for line in lines if line.startswith("#") and not line.startswith("# Done")]
    assert headings == ["##", "##", "###", "##"]
    assert "a reminder" not in "\n".join(lines)
    assert "\x1b" not in "".join(lines)


def test_a_handoff_shortens_results_and_says_so() -> None:
    lines = "\n".join(markdown.render(conversation(), shorten=100))
    assert f"... {len(HOSTILE) * 200 - 100} more characters" in lines
    assert len(lines) < len("\n".join(markdown.render(conversation()))) / 5
