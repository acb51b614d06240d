"""The unified store of Mistral Vibe since 2.26: generations of chunks, and a journal (field-notes B.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from sessiond.sources.records import parse

NONE = msgspec.Raw(b"")


class _Named(msgspec.Struct, gc=False):
    id: str | None = None


class _Current(msgspec.Struct):
    generation: str


class _Chunks(msgspec.Struct):
    chunks: list[str] = []


class _Segment(msgspec.Struct):
    path: str = ""


class _Manifest(msgspec.Struct):
    projection_state: _Chunks
    recovery_journal_segment: _Segment | None = None


class _Change(msgspec.Struct):
    op: str = ""
    id: str | None = None
    entry: msgspec.Raw = NONE


class _Changes(msgspec.Struct):
    delta: list[_Change] = []


class _Step(msgspec.Struct):
    type: str = ""
    payload: msgspec.Raw = NONE


NAMED, LIST = msgspec.json.Decoder(_Named), msgspec.json.Decoder(list[msgspec.Raw])
CURRENT, MANIFEST = msgspec.json.Decoder(_Current), msgspec.json.Decoder(_Manifest)
STEP, CHANGES = msgspec.json.Decoder(_Step), msgspec.json.Decoder(_Changes)


def lines_of(content: bytes) -> list[bytes]:
    """Split whole lines."""
    return [line for line in content.split(b"\n")[:-1] if line]


def entries_of(files: Mapping[str, bytes]) -> dict[str, msgspec.Raw]:
    """Read the history that the current generation has, and what the journal added and replaced since then.

    The chunks of `projection_state` have times, those of the checkpoint have not (field-notes B.2).
    """
    generation = parse(CURRENT, files["CURRENT"]).generation
    name = f"generations/{generation}/manifest.json"
    if name not in files:
        raise ValueError("the generation is not there yet")
    manifest, entries = parse(MANIFEST, files[name]), dict[str, msgspec.Raw]()
    for chunk in manifest.projection_state.chunks:
        if f"chunks/{chunk}.json" not in files:
            raise ValueError("a chunk of the generation is not there yet")
        for raw in parse(LIST, files[f"chunks/{chunk}.json"]):
            entries[parse(NAMED, bytes(raw)).id or str(len(entries))] = raw
    journal = manifest.recovery_journal_segment.path if manifest.recovery_journal_segment else ""
    for change in _changes(lines_of(files.get(journal, b""))):
        if bytes(change.entry):
            entries[parse(NAMED, bytes(change.entry)).id or change.id or str(len(entries))] = change.entry
    return entries


def _changes(journal: Iterable[bytes]) -> Iterator[_Change]:
    for line in journal:
        step = parse(STEP, line)
        if step.type == "projection_delta":
            yield from CHANGES.decode(step.payload).delta
