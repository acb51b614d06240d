"""A survey: where secrets stand in a file, without reading them out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec

from sessiond.redact import Masked, Redactor, digest
from sessiond.redact.text import blank

BLOCK = 1 << 20


class SecretFinding(msgspec.Struct, frozen=True, kw_only=True):
    """Where a secret stands, by which rule it is one, and how to allow it."""

    file: str
    """With `::` and the name of session and stream, where it holds several."""
    line: int
    """Of a file its line, of a document or a database the record that is made of it."""
    rule: str
    length: int
    hash: str
    """For `redaction.allow_hashes`. Whoever has it can try values on it, so it is not printed unasked."""


def scan_file(redactor: Redactor, path: str) -> Iterator[SecretFinding]:
    """List the secrets in a file, in any form that transcripts come in. Raises: OSError."""
    with open(path, "rb") as file:
        line = 1
        for data in _runs(file):
            yield from find_secrets(data, redactor.mask(data, path), path, line)
            line += data.count(b"\n")


def scan_records(redactor: Redactor, path: str, name: str, records: Iterable[bytes]) -> Iterator[SecretFinding]:
    """List the secrets in the records of a stream that has this name in a file; `line` counts its records."""
    label, held, size, line = f"{path}::{name}" if name else path, list[bytes](), 0, 1

    def settle() -> list[SecretFinding]:
        data = b"".join(held)
        return find_secrets(data, redactor.mask(data, path), label, line)

    for record in records:
        held.append(record + b"\n")
        size += len(record)
        if size >= BLOCK:
            yield from settle()
            line, size = line + len(held), 0
            held.clear()
    yield from settle()


def find_secrets(data: bytes, masked: Masked, file: str, line: int) -> list[SecretFinding]:
    """Return the positions of findings, in bytes that begin at a line."""
    found: list[SecretFinding] = []
    counted = 0
    for finding in masked.findings:
        line += data.count(b"\n", counted, finding.start)
        counted = finding.start
        secret = data[finding.start : finding.start + finding.length]
        name = digest(blank(secret))
        found.append(SecretFinding(file=file, line=line, rule=finding.rule, length=finding.length, hash=name))
    return found


def _runs(file: BinaryIO) -> Iterator[bytes]:
    """Read runs of whole lines; a long line is one run, for a secret in it is to be found as a whole."""
    held = bytearray()
    while block := file.read(BLOCK):
        cut = block.rfind(b"\n") + 1
        held += block[:cut] if cut else block
        if cut:
            yield bytes(held)
            held = bytearray(block[cut:])
    if held:
        yield bytes(held)
