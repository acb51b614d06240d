"""What a restored session lacks because it was masked before it left its machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sessiond.redact.places import count_masked
from sessiond.restore.engine import Restoration
from sessiond.text import count


def masked_notes(restoration: Restoration, read: Callable[[str], bytes]) -> list[str]:
    """Return a line for the user about what is masked in what is written; nothing if nothing is.

    `read` returns the bytes of a file that is changed. What is here already is not counted.
    """
    places = sum(count_masked(each.content()) for each in restoration.new)
    places += sum(count_masked(each.content()) for each in restoration.plan.imports)
    places += sum(count_masked(_after(file.content(), size)) for file, size in restoration.behind)
    for edit in restoration.plan.edits:
        if edit.transcript:
            before = read(edit.path)
            places += max(0, count_masked([edit.change(before)]) - count_masked([before]))
    if not places:
        return []
    return [f"asterisks in {count(places, 'place')}, where secrets were masked before they left their machine"]


def _after(pieces: Iterator[bytes], start: int) -> Iterator[bytes]:
    """Iterate the bytes from an offset on."""
    position = 0
    for piece in pieces:
        skipped = max(0, start - position)
        position += len(piece)
        if len(piece) > skipped:
            yield piece[skipped:] if skipped else piece
