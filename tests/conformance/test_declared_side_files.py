"""The side files that sources declare: each belongs to a session of its sample, and its stream is its bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance import engine
from sessiond.endpoint.wire import PushAppend
from sessiond.sources import find_sources
from sessiond.sources.side_files import MEDIA_TYPES, OCTETS
from support.each_tool import each_tool
from support.sample_tree import NAMES, built

ORPHANS = {"opencode/1.18-database": 1}
"""Samples with side files of a session that does not exist."""

sample = each_tool(NAMES)


@sample
def test_each_side_file_of_a_sample_belongs_to_a_session(name: str) -> None:
    """Every declared file belongs to a session, and none has the name of a transcript."""
    found = engine.capture(built(name))
    streams = [stream for session in found.values() for stream in session.side_files]
    assert len(streams) == len(list(engine.side_files(built(name)))) - ORPHANS.get(name, 0)
    for session in found.values():
        assert not session.side_files.keys() & set(session.streams)


@sample
def test_the_stream_of_a_side_file_is_its_bytes(name: str) -> None:
    """The stream has exactly the bytes of the file, and none of them is decoded."""
    for location in engine.side_files(built(name)):
        with engine.streams(location) as (stream,):
            assert engine.content(stream) == Path(location.path).read_bytes()
            assert (list(stream.content.records(0)), stream.thread) == ([], False)


def test_media_types_follow_the_protocol() -> None:
    """An endpoint refuses any other media type."""
    import msgspec

    decoder = msgspec.json.Decoder(PushAppend)
    declared = {files.media_type or OCTETS for source in find_sources() for files in source.side_files}
    for media_type in {*MEDIA_TYPES.values(), OCTETS} | declared:
        line = {"op": "append", "machine_id": "m", "session": "0198c0de-0000-7000-8000-000000000001", "stream": "s"}
        line |= {"generation": 0, "offset": 0, "length": 1, "sha256": "0" * 64, "data": "x", "media_type": media_type}
        assert decoder.decode(msgspec.json.encode(line)).media_type == media_type
    for bad in ("text/html; x=y", "Text/plain", "text/plain\n", "text", "/", "a/b/c", "x/" + "y" * 100):
        with pytest.raises(msgspec.ValidationError):
            decoder.decode(msgspec.json.encode(line | {"media_type": bad}))
