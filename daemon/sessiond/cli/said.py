"""Finds the sessions in which something was said, by reading their transcripts: the newest first, without an index."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from sessiond.cli.conversation import Library, Reader
from sessiond.cli.selection import Row
from sessiond.cli.threads import threads
from sessiond.config import Config
from sessiond.errors import SessiondError
from sessiond.session import Item, ItemKind
from sessiond.spool import Spool

SPOKEN = frozenset({ItemKind.MESSAGE, ItemKind.SUMMARY})
"""What counts as said: not what a tool printed."""
_PLAIN = re.compile(r"[a-z0-9_.,:;!?()+*=@-]+")
"""Words whose characters have one form in JSON, so that the bytes of a transcript can be searched for them."""


class Phrase:
    """Words that are looked for. All of them have to be in one message, in any order; case is ignored."""

    def __init__(self, text: str) -> None:
        self._words = text.lower().split()
        self._plain = [word.encode() for word in self._words if _PLAIN.fullmatch(word)]

    def is_in(self, text: str) -> bool:
        """Return whether a text has all words."""
        lower = text.lower()
        return all(word in lower for word in self._words)

    def may_be_in(self, parts: Iterable[bytes]) -> bool:
        """Return whether the bytes of a stream have all words that can be searched for in bytes."""
        missing, overlap, rest = set(self._plain), max(map(len, self._plain), default=1) - 1, b""
        for part in parts:
            if not missing:
                break
            if b"\0" in part:  # in another encoding than UTF-8
                return True
            joined = rest + part.lower()
            missing = {word for word in missing if word not in joined}
            rest = joined[-overlap:] if overlap else b""
        return not missing


class SaidFilter:
    """Filters sessions by the words of their messages, one session after the other."""

    def __init__(self, text: str, spool: Spool | None, config: Config, environ: Mapping[str, str]) -> None:
        """`text` are the words."""
        self._phrase = Phrase(text)
        # Nothing that is read here is printed, so it is not masked: masking would take most of the time.
        self._library = Library(spool, config, environ, None)
        self.unread: list[SessiondError] = []
        """Why sessions could not be read."""

    def matching(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Iterate the sessions whose name or messages have the words."""
        for row in rows:
            if self._phrase.is_in(row.name or ""):
                yield row
                continue
            try:
                if self._is_said(self._library.find(str(row.record.id))):
                    yield row
            except SessiondError as error:
                self.unread.append(error)

    def close(self) -> None:
        """Close the connection to the endpoint, if one was opened."""
        self._library.close()

    def _is_said(self, reader: Reader) -> bool:
        names = [stream.name for stream in reader.streams() if stream.media_type is None]
        if not any(self._phrase.may_be_in(reader.content(name)) for name in names):
            return False
        found = (placed.whole for thread in threads(reader) for placed in thread.items)
        return any(self._is_spoken(item) for item in found)

    def _is_spoken(self, item: Item) -> bool:
        return item.kind in SPOKEN and self._phrase.is_in(item.text)
