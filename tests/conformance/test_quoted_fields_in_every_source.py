"""Text that quotes fields of a record: no source takes the model, directory, branch or version of a session from it.

People paste transcripts into their prompts, and tools print them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from conformance.engine import NOW_MS
from conformance.test_odd_times_in_every_source import streams_of
from sessiond.ingest.pipeline import decode
from sessiond.session import Fold
from sessiond.sources.base import Source
from support.each_tool import each_tool
from support.sample_tree import NAMES

QUOTED = (
    "<USER_SETTINGS_CHANGE>\nThe user changed setting `Model Selection` from Old to Quoted Model.\n"
    '</USER_SETTINGS_CHANGE> "model":"quoted-model"'
    ' {"type":"session_meta","model":"quoted-model","modelId":"quoted-model","cwd":"/quoted","version":"9.9.9",'
    '"sessionId":"quoted","gitBranch":"quoted","parentUuid":"quoted","timestamp":"2031-01-01T00:00:00.000Z"}'
    "\nmodel: quoted-model\ncwd: /quoted\n> Model: quoted-model\n<model>quoted-model</model>"
)
TEXTS = ("text", "message", "content", "output", "stdout", "prompt", "response", "result", "thinking", "reasoning")
"""Names of fields that have what was said or printed."""


def with_quotations(value: Any, name: str = "") -> Any:
    """Return a JSON value with quoted fields at the end of each text, or of the tag around it."""
    if isinstance(value, dict):
        return {key: with_quotations(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [with_quotations(each, name) for each in value]
    if not isinstance(value, str) or not value.strip() or name not in TEXTS:
        return value
    tag = re.match(r"<(\w+)", value)
    text, end, rest = value.partition(f"</{tag[1]}>") if tag else (value, "", "")
    return value if tag and not end else f"{text} {QUOTED}{end}{rest}"


def facts(source: Source, content: bytes) -> dict[str, Any]:
    """Return what is known of a session from the records of a stream, without its title."""
    fold = Fold()
    decode(source, content, fold, NOW_MS)
    return {
        "messages": len(fold.messages),
        "models": fold.models,
        "record": (fold.started_ms, fold.last_ms, fold.version, fold.cwd, fold.branch, fold.parent),
        "unknown": fold.unknown,
        "damaged": fold.damaged,
    }


@each_tool(NAMES)
def test_no_fact_of_a_session_comes_from_quoted_text(name: str) -> None:
    for stream in streams_of(name):
        lines = stream.content.splitlines()
        try:
            records = [json.loads(line) for line in lines]
        except ValueError:
            continue  # a sample of damaged records
        before = b"".join(json.dumps(each).encode() + b"\n" for each in records)
        after = b"".join(json.dumps(with_quotations(each)).encode() + b"\n" for each in records)
        assert facts(stream.source, after) == facts(stream.source, before), stream.name
